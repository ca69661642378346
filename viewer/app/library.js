// An open file on the page's side: its blocks, payloads and bitmaps, asked of workers and kept for a while.

import { decodeHint } from './bitmaps.js';
import { Pool, Remote } from './remote.js';

const KEPT_BLOCKS = 64;
const KEPT_BYTES = 64 * 1024 * 1024; // of their tables and hints
const KEPT_PIXELS = 24 * 1024 * 1024; // of thumbnails: about 100 MB
const LARGEST_THUMBNAIL = 16 * 1024 * 1024; // pixels of a map or an image that become a thumbnail unasked

/** Whether a hint can be drawn: a VP8 frame, or a learned picture of model 1. */
export function isDrawn(row, hint) {
  return hint !== null && (row.hintCodec === 0 || (row.hintCodec === 1 && hint[0] === 1));
}

let prior = null; // a promise of the gzip file's bytes
let model = null;

/** Where the prior's bytes come from, and where the model of learned pictures is, {url} or {bytes}: set once. */
export function usePrior(load, learned) {
  let bytes = null;
  prior = () => (bytes ??= load());
  model = learned;
}

/** Gives a new worker the prior, or the reason why there is none; it may be ended before. */
function withPrior(remote) {
  prior()
    .then((bytes) => ({ bytes }), ({ message }) => ({ message }))
    .then((values) => remote.call('prior', { ...values, model }))
    .catch(() => {});
}

const cores = navigator.hardwareConcurrency || 2;
const pool = new Pool(Math.max(2, Math.min(4, cores - 1)), withPrior);

/** A file of exemplars. `source`: {url, near}, {blob} or {bytes}. */
export class Library {
  constructor(name, source) {
    this.name = name;
    this.source = source;
    this.reader = new Remote();
    this.reader.warm();
    this.blocks = new Map();
    this.bitmaps = new Map();
    this.pixels = 0;
    this.asked = new Map();
  }

  /** Opens the file; fails with a RemoteError. */
  async open() {
    Object.assign(this, await this.reader.call('open', { source: this.source }));
    pool.warm(); // not before: the names and hints of the first screen need no pool
    this.near = !this.source.url || this.source.near;
    return this;
  }

  /** Forgets the file. */
  close() {
    this.reader.end();
    this.#dropBitmaps();
  }

  /** [block, row] of an exemplar. */
  find(number) {
    const { starts } = this.places;
    let low = 0;
    let high = starts.length - 1;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (starts[middle] <= number) low = middle;
      else high = middle;
    }
    return [low, number - starts[low]];
  }

  /** The rows and hints of a block: {rows, hints, hintAt, tableBytes}. */
  rows(block) {
    let promise = this.blocks.get(block);
    if (promise) this.blocks.delete(block);
    else promise = this.reader.call('rows', { block });
    this.blocks.set(block, promise);
    promise.then((rows) => (promise.value = rows), () => {});
    let bytes = 0;
    for (const { value } of this.blocks.values()) bytes += value?.memory ?? 0;
    for (const [each, { value }] of this.blocks) {
      if (each === block || (this.blocks.size <= KEPT_BLOCKS && bytes <= KEPT_BYTES)) break;
      this.blocks.delete(each);
      bytes -= value?.memory ?? 0;
    }
    return promise;
  }

  /** {row, hint} of an exemplar if its block is there already, else null. */
  known(number) {
    const [block, row] = this.find(number);
    const value = this.blocks.get(block)?.value;
    return value ? this.#exemplar(value, row) : null;
  }

  /** {row, hint, tableShare} of an exemplar. */
  async exemplar(number) {
    const [block, row] = this.find(number);
    return this.#exemplar(await this.rows(block), row);
  }

  #exemplar({ rows, hints, hintAt, tableBytes }, row) {
    const hint = rows[row].hintLength ? hints.subarray(hintAt[row], hintAt[row + 1]) : null;
    return { row: rows[row], hint, tableShare: tableBytes / rows.length };
  }

  /** The payload of an exemplar; what is asked for at the same moment is read together. */
  payload(number) {
    const [block, row] = this.find(number);
    let group = this.asked.get(block);
    if (!group) {
      group = { rows: [], promise: null };
      this.asked.set(block, group);
      group.promise = new Promise((resolve) => setTimeout(resolve)).then(() => {
        this.asked.delete(block);
        return this.reader.call('payloads', { block, rows: group.rows });
      });
    }
    const place = group.rows.push(row) - 1;
    return group.promise.then((payloads) => payloads[place]);
  }

  /** The bitmap of a hint, kept. VP8 is quick: the page decodes it itself, before the workers are ready. */
  hintBitmap(number, wanted = () => true) {
    return this.#kept(`hint ${number}`, async () => {
      const { row, hint } = await this.exemplar(number);
      if (!isDrawn(row, hint)) return null;
      if (row.hintCodec === 0) return decodeHint(hint);
      const result = await pool.run('latent', { bytes: hint }, { wanted });
      return result?.bitmap;
    });
  }

  /** The picture of an exemplar with at most `side` pixels: {bitmap} of a map in the colour `ink`, or of an image. */
  thumbnail(number, side, ink, wanted) {
    return this.#kept(`thumbnail ${number} ${side} ${ink}`, async () => {
      const { row } = await this.exemplar(number);
      const [height, width] = row.kind === 'prompt' ? row.mapSize : row.size;
      const large = row.kind !== 'latent' && height * width > LARGEST_THUMBNAIL;
      if (large || !wanted()) return undefined;
      const result = await this.picture(number, side, ink, { wanted });
      return result?.bitmap;
    });
  }

  /** The edge map, image or learned picture of an exemplar, not kept: {bitmap, edges or type}. */
  async picture(number, side, ink, options = { first: true }) {
    const [{ row }, bytes] = await Promise.all([this.exemplar(number), this.payload(number)]);
    if (row.kind === 'real') return pool.run('image', { bytes, side }, options);
    if (row.kind === 'latent') return pool.run('latent', { bytes }, options);
    const [height, width] = row.mapSize;
    return pool.run('edges', { bytes, coding: row.coding, height, width, side, ink }, options);
  }

  /** An approximate picture of what a prompt with a hint may be regenerated to. */
  async preview(number, side) {
    const [{ row, hint }, bytes] = await Promise.all([this.exemplar(number), this.payload(number)]);
    const [height, width] = row.mapSize;
    const values = { bytes, coding: row.coding, height, width, hint, hintCodec: row.hintCodec, side };
    return pool.run('preview', values, { first: true });
  }

  /** What a filter lets through of some blocks: see searchBlock. */
  search(blocks, filter) {
    return this.reader.call('search', { blocks, filter });
  }

  /** Checks every byte in a worker of its own; `remote` may be ended. */
  verify(onProgress) {
    const remote = new Remote(withPrior);
    const result = remote.call('verify', { source: this.source }, { onProgress, seconds: 60 });
    return { remote, result: result.finally(() => remote.end()) };
  }

  async #kept(key, make) {
    const held = this.bitmaps.get(key);
    if (held) {
      this.bitmaps.delete(key);
      this.bitmaps.set(key, held);
      return held;
    }
    const bitmap = await make();
    if (!bitmap) return bitmap;
    this.bitmaps.set(key, bitmap);
    this.pixels += bitmap.width * bitmap.height;
    while (this.pixels > KEPT_PIXELS && this.bitmaps.size > 1) {
      const [oldest, other] = this.bitmaps.entries().next().value;
      this.bitmaps.delete(oldest);
      this.pixels -= other.width * other.height;
    }
    return bitmap;
  }

  #dropBitmaps() {
    for (const bitmap of this.bitmaps.values()) bitmap.close();
    this.bitmaps.clear();
    this.pixels = 0;
  }
}
