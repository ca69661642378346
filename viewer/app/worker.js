// The worker's side: opens and searches files, decodes maps, hints and images. Nothing of it can stop the page, and the
// page ends a worker that takes too long.

import { decodeMap } from '../escx/coding/codings.js';
import { EscxError, need } from '../escx/errors.js';
import { EscxFile } from '../escx/file.js';
import { rebuildHint } from '../escx/hint.js';
import { unpackPrior } from '../escx/prior.js';
import { BlobSource, BytesSource, HttpSource } from '../escx/source.js';
import { verify } from '../escx/verify.js';
import { searchBlock } from './search.js';
import { checkImage } from './image_size.js';
import { alphaOf, coverage, grow, spread } from './picture.js';

let file = null;
let givePrior = null;
const tables = new Promise((resolve) => (givePrior = resolve)); // the prior of coding 2
tables.catch(() => {}); // who needs it will be told

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
    const checkHint = async ({ file: webp, width, height }) => {
      const picture = await decode(webp, 'image/webp', 'a hint');
      const same = picture.width === width && picture.height === height;
      picture.close();
      need(same, 'M29', 'a hint decodes to another size than its header says');
    };
    const onProgress = (done) => tell(done / opened.size);
    return moving(await verify(opened, { tables: await tables, checkHint, onProgress }));
  },

  /** Takes the prior's gzip file, or the message that it is not there. */
  prior({ bytes, message }) {
    const missing = () => Promise.reject(new EscxError('', `the prior of coding 2 cannot be loaded (${message})`));
    givePrior(bytes ? unpackPrior(bytes) : missing());
    return moving(null);
  },

  /** A hint as a bitmap. */
  async hint({ bytes }) {
    const bitmap = await hintBitmap(bytes);
    return moving(bitmap, bitmap);
  },

  /** An edge map as a bitmap in the colour `ink`, with at most `side` pixels a side; and its edge pixels. */
  async edges({ bytes, coding, height, width, side, ink }) {
    const map = decodeMap(coding, bytes, height, width, coding === 2 ? await tables : null);
    if (!height || !width) return moving({ bitmap: null, edges: 0 });
    const bitmap = await createImageBitmap(alphaOf(coverage(map, side), ink));
    return moving({ bitmap, edges: map.count() }, bitmap);
  },

  /** An approximate picture of what a prompt may be regenerated to; null without a hint. */
  async preview({ bytes, coding, height, width, hint, side }) {
    const bitmap = await hintBitmap(hint);
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
    const bitmap = await decode(bytes, type, 'the image file', options);
    return moving({ bitmap, type }, bitmap);
  },
};

async function hintBitmap(bytes) {
  const { file: webp, width, height } = rebuildHint(bytes);
  const bitmap = await decode(webp, 'image/webp', 'the hint');
  need(bitmap.width === width && bitmap.height === height, 'M29', 'the hint decodes to another size than its header says');
  return bitmap;
}

async function decode(bytes, type, what, options = {}) {
  try {
    return await createImageBitmap(new Blob([bytes], { type }), options);
  } catch {
    throw new EscxError('M29', `${what} cannot be decoded by this browser`);
  }
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
