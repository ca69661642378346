// An open .escx file over any source of bytes.

import { Block, frontLength } from './block.js';
import { EscxError, need } from './errors.js';
import { readHead, readRecipe } from './facts.js';
import { Index } from './file_index.js';
import { FRAME, PREAMBLE, TAIL, checkPreamble, chunkHead, chunkPayload, readTail } from './layout.js';
import { CAPS } from './limits.js';

/** Bytes that are read at once from the front and from the end of a file. */
const FRONT_BYTES = 65536;
const END_BYTES = 262144;

/** Payloads with gaps up to this between them are read at once. */
const GAP = 32768;

/** Bytes of neighbouring blocks that a search reads at once. */
const TOGETHER = 4194304;

const KEPT = 8; // blocks

/**
 * Head, index and recipes of a file. Faults are EscxErrors.
 *
 * Blocks are read on demand and the last few are kept. From a source that is `whole` a block is read whole, and the
 * checksum of its chunk must be right for its payloads to be used; from others just the table and hints are read, whose
 * checksums are their own, and then single payloads.
 */
export class EscxFile {
  /** Opens a file: two or three reads. */
  static async open(source) {
    const file = new EscxFile();
    file.source = source;
    file.kept = new Map();
    const front = await source.read(0, Math.min(FRONT_BYTES, source.size));
    file.minor = checkPreamble(front);
    await file.#readIndex();
    await file.#readFacts(front);
    return file;
  }

  get size() {
    return this.source.size;
  }

  async #readIndex() {
    const { source } = this;
    const from = Math.max(0, source.size - END_BYTES);
    const end = await source.read(from, source.size - from);
    const offset = readTail(end.subarray(Math.max(0, end.length - TAIL)), source.size);
    const length = source.size - TAIL - FRAME - offset;
    need(length <= CAPS.chunk, 'M7', 'the index is above the cap');
    const bytes = offset >= from ? end.subarray(offset - from) : await source.read(offset, length + FRAME);
    const head = chunkHead(bytes, offset);
    need(head.type === 'INDX' && head.length === length, 'M11', 'the trailer does not follow the index that it names');
    this.indexOffset = offset;
    this.index = new Index(chunkPayload(bytes, offset, 'INDX', length), offset);
  }

  async #readFacts(front) {
    const { index } = this;
    const at = async (offset, length) =>
      offset + length <= front.length ? front.subarray(offset, offset + length) : this.source.read(offset, length);
    const head = chunkHead(await at(PREAMBLE, 8), PREAMBLE);
    need(head.type === 'HEAD', 'M8', 'the first chunk is not the head');
    need(head.length <= CAPS.head, 'M26', 'the head is above the cap');
    const first = Math.min(this.indexOffset, index.recipes[0] ?? Infinity, index.offsets[0] ?? Infinity);
    need(head.end <= first, 'M21', 'a chunk overlaps the head');
    this.head = readHead(chunkPayload(await at(PREAMBLE, head.length + FRAME), PREAMBLE, 'HEAD', head.length));
    this.recipes = [];
    for (let i = 0; i < index.recipes.length; i++) {
      const [offset, length] = [index.recipes[i], index.recipeLengths[i]];
      this.recipes.push(readRecipe(chunkPayload(await at(offset, length + FRAME), offset, 'RECP', length), i));
    }
  }

  /** Block `number`: its table and hints. */
  block(number) {
    let promise = this.kept.get(number);
    if (promise) {
      this.kept.delete(number); // the last used stands last
    } else {
      promise = this.#readBlock(number);
      promise.catch(() => this.kept.delete(number));
    }
    this.kept.set(number, promise);
    if (this.kept.size > KEPT) this.kept.delete(this.kept.keys().next().value);
    return promise;
  }

  /**
   * Blocks one after another, for searches: {number, block} or {number, error}. They are not kept.
   *
   * From a source that is `whole`, neighbours come with one read; a table and its hints have their own checksums.
   */
  async *scan(numbers) {
    const { index, source } = this;
    const end = (number) => index.offsets[number] + 8 + frontLength(index.tables[number], index.hints[number]);
    for (let first = 0, last; first < numbers.length; first = last + 1) {
      const from = index.offsets[numbers[first]];
      last = first;
      while (last + 1 < numbers.length && end(numbers[last + 1]) - from <= TOGETHER) last++;
      const bytes = source.whole ? await source.read(from, end(numbers[last]) - from) : null;
      for (const number of numbers.slice(first, last + 1)) {
        try {
          const at = index.offsets[number] - from;
          const block = bytes ? this.#front(number, bytes.subarray(at, end(number) - from)) : await this.block(number);
          yield { number, block };
        } catch (error) {
          if (!(error instanceof EscxError)) throw error;
          yield { number, error };
        }
      }
    }
  }

  async #readBlock(number) {
    const { index, source } = this;
    const offset = index.offsets[number];
    const length = index.lengths[number];
    if (!source.whole) {
      const wanted = 8 + frontLength(index.tables[number], index.hints[number]);
      return this.#front(number, await source.read(offset, wanted));
    }
    const bytes = await source.read(offset, length + FRAME);
    const block = this.#front(number, bytes);
    try {
      block.bytes = chunkPayload(bytes, offset, 'BLCK', length);
    } catch (error) {
      block.fault = error; // table and hints have checksums of their own
    }
    return block;
  }

  /** Block `number` from the bytes of its chunk as far as its hints. */
  #front(number, bytes) {
    const offset = this.index.offsets[number];
    const head = chunkHead(bytes, offset);
    const same = head.type === 'BLCK' && head.length === this.index.lengths[number];
    need(same, 'M23', `the index names a block at byte ${offset}, where there is none of its length`);
    return this.#parse(number, bytes.subarray(8));
  }

  #parse(number, bytes) {
    const { index } = this;
    const offset = index.offsets[number];
    try {
      const block = new Block(bytes, index.lengths[number], this.recipes.length);
      index.checkBlock(number, block);
      return block;
    } catch (error) {
      if (!(error instanceof EscxError) || error.offset >= 0) throw error;
      throw new EscxError(error.rule, `${error.message} (in the block at byte ${offset})`, { offset });
    }
  }

  /** The payloads of `rows` of block `number`, in their order: near ones come with one read. */
  async payloads(number, rows) {
    const block = await this.block(number);
    if (block.fault) throw block.fault;
    const at = (row) => [block.payloadAt[row], block.payloadAt[row + 1]];
    if (block.bytes) return rows.map((row) => block.bytes.subarray(...at(row)));
    const spans = [];
    for (const row of [...rows].sort((one, other) => one - other)) {
      const [start, end] = at(row);
      const last = spans.at(-1);
      if (last && start - last.end <= GAP) last.end = Math.max(last.end, end);
      else spans.push({ start, end });
    }
    const base = this.index.offsets[number] + 8;
    await Promise.all(
      spans.map(async (span) => {
        span.bytes = await this.source.read(base + span.start, span.end - span.start);
        need(span.bytes.length === span.end - span.start, 'M4', `the file ends inside the block at byte ${base - 8}`);
      }),
    );
    return rows.map((row) => {
      const [start, end] = at(row);
      const span = spans.find((each) => each.start <= start && end <= each.end);
      return span.bytes.slice(start - span.start, end - span.start);
    });
  }
}
