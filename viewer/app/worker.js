// The worker's side: opens and searches files, decodes maps, hints and images. Nothing of it can stop the page, and the
// page ends a worker that takes too long.

import { decodeMap } from '../escx/coding/codings.js';
import { EscxError } from '../escx/errors.js';
import { EscxFile } from '../escx/file.js';
import { readPictureHead } from '../escx/latent/latents.js';
import { unpackModel } from '../escx/latent/model.js';
import { decodePicture } from '../escx/latent/picture.js';
import { unpackPrior } from '../escx/prior.js';
import { BlobSource, BytesSource, HttpSource } from '../escx/source.js';
import { verify } from '../escx/verify.js';
import { decodeHint, decodeImage, decodeRebuilt } from './bitmaps.js';
import { checkImage } from './image_size.js';
import { searchBlock } from './search.js';
import { alphaOf, coverage, grow, spread } from './picture.js';

let file = null;
let givePrior = null;
const tables = new Promise((resolve) => (givePrior = resolve)); // the prior of coding 2
tables.catch(() => {}); // who needs it will be told
let giveModel = null;
const modelSource = new Promise((resolve) => (giveModel = resolve)); // {url} or {bytes} of learned pictures' model
let loaded = null; // the model, once it is needed

/** A result, and what of it moves to the page instead of being copied. */
const moving = (result, ...moved) => ({ result, moved });

const operations = {
  /** Opens {url, near}, {blob} or {bytes}. */
  async open({ source }) {
    file = null;
    file = await EscxFile.open(await sourceOf(source));
    const { index, head, minor, recipes, size } = file;
    const { total, classes, classCounts, starts, seeds, lengths, tables: tableBytes, hints } = index;
    const places = { starts, lengths, tables: tableBytes, hints, members: index.members };
    return moving({ size, total, minor, head, recipes, classes, classCounts, seeds, places, end: size - file.indexOffset });
  },

  /** The rows and hints of a block. */
  async rows({ block: number }) {
    const block = await file.block(number);
    const rows = Array.from({ length: block.length }, (_, i) => block.row(i));
    const hints = block.hints.slice();
    const { hintAt, tableBytes, memory } = block;
    return moving({ rows, hints, hintAt, tableBytes, memory }, hints.buffer);
  },

  /** The payloads of some rows of a block. */
  async payloads({ block, rows }) {
    const payloads = (await file.payloads(block, rows)).map((bytes) => bytes.slice());
    return moving(payloads, ...payloads.map((bytes) => bytes.buffer));
  },

  /** The exemplars of some blocks that a filter lets through, and what the blocks' bytes are spent on. */
  async search({ blocks, filter }) {
    const found = [];
    for await (const { number, block, error } of file.scan(blocks)) {
      found.push(error ? { fault: error.message } : searchBlock(block, filter, file.index.starts[number]));
    }
    return moving(found);
  },

  /** Checks every byte of an open source; says how far it is. */
  async verify({ source }, tell) {
    const opened = await sourceOf(source);
    const checkHint = async (rebuilt) => (await decodeRebuilt(rebuilt)).close();
    const onProgress = (done) => tell(done / opened.size);
    return moving(await verify(opened, { tables: await tables, model, checkHint, onProgress }));
  },

  /** Takes the prior's gzip file, or the message that it is not there; and where learned pictures' model is. */
  prior({ bytes, message, model: source }) {
    giveModel(source);
    const missing = () => Promise.reject(new EscxError('', `the prior of coding 2 cannot be loaded (${message})`));
    givePrior(bytes ? unpackPrior(bytes) : missing());
    return moving(null);
  },

  /** An edge map as a bitmap in the colour `ink`, with at most `side` pixels a side; and its edge pixels. */
  async edges({ bytes, coding, height, width, side, ink }) {
    const map = decodeMap(coding, bytes, height, width, coding === 2 ? await tables : null);
    if (!height || !width) return moving({ bitmap: null, edges: 0 });
    const bitmap = await createImageBitmap(alphaOf(coverage(map, side), ink));
    return moving({ bitmap, edges: map.count() }, bitmap);
  },

  /** A learned picture as a bitmap of its own size. */
  async latent({ bytes }) {
    const bitmap = await latentBitmap(bytes);
    return moving({ bitmap }, bitmap);
  },

  /** An approximate picture of what a prompt may be regenerated to; null without a hint. */
  async preview({ bytes, coding, height, width, hint, hintCodec, side }) {
    const bitmap = hintCodec === 1 ? await latentBitmap(hint) : await decodeHint(hint);
    const map = decodeMap(coding, bytes, height, width, coding === 2 ? await tables : null);
    const marks = coverage(map, side);
    const start = grow(bitmap, marks.width, marks.height);
    bitmap.close();
    const out = await createImageBitmap(spread(start, marks));
    return moving(out, out);
  },

  /** An image file as a bitmap with at most `side` pixels a side, and its type. */
  async image({ bytes, side }) {
    const { type, width, height } = checkImage(bytes);
    const scale = Math.min(1, side / Math.max(width, height));
    const options = scale < 1 ? { resizeWidth: Math.max(1, Math.round(width * scale)), resizeQuality: 'medium' } : {};
    const bitmap = await decodeImage(bytes, type, 'the image file', options);
    return moving({ bitmap, type }, bitmap);
  },
};

/** A promise of the model of learned pictures. */
function model() {
  loaded ??= loadModel();
  loaded.catch(() => (loaded = null)); // it may be there later
  return loaded;
}

async function loadModel() {
  const source = await modelSource;
  if (!source) throw new EscxError('', 'this page does not hold the model of learned pictures');
  try {
    return await unpackModel(source.bytes ?? (await fetched(source.url)));
  } catch (error) {
    throw new EscxError('', `the model of learned pictures cannot be loaded (${error?.message ?? error})`);
  }
}

async function fetched(url) {
  const answer = await fetch(url, { cache: 'no-store' }); // workers that ask at once do not wait for each other
  if (!answer.ok) throw new Error(`the server answers ${answer.status}`);
  return new Uint8Array(await answer.arrayBuffer());
}

async function latentBitmap(bytes) {
  readPictureHead(bytes); // before the model is asked for
  const { data, width, height } = decodePicture(bytes, await model());
  return createImageBitmap(new ImageData(data, width, height));
}

async function sourceOf({ url, near, blob, bytes }) {
  if (blob) return new BlobSource(blob);
  return bytes ? new BytesSource(bytes) : new HttpSource(url, { near }).open();
}

self.onmessage = async ({ data: { id, operation, values } }) => {
  const tell = (progress) => self.postMessage({ id, progress });
  try {
    const { result, moved } = await operations[operation](values, tell);
    self.postMessage({ id, result }, moved);
  } catch (error) {
    const known = error instanceof EscxError;
    const message = known ? error.message : `this viewer cannot go on with this file (${error?.message ?? error})`;
    self.postMessage({ id, error: { message, unfinished: known && error.unfinished, rule: known ? error.rule : '' } });
  }
};
