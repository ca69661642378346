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

/** Bytes of neighbouring blocks that a search reads at once. */
const TOGETHER = 4194304;

/** Blocks that are kept, and the most bytes of them beside the one that was used last. */
const KEPT = 8;
const KEPT_BYTES = 67108864;

/**
 * Head, index and recipes of a file. Faults are EscxErrors.
 *
 * Blocks are read on demand and the last few are kept. From a source that is `whole` a block is read at once; from
 * others first its table and hints, which have checksums of their own, and the rest when a payload is asked for, since
 * the checksum of the chunk is needed for it.
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
    const weight = (each) => this.index.lengths[each] + this.index.tables[each];
    let bytes = [...this.kept.keys()].reduce((sum, each) => sum + weight(each), 0);
    for (const each of this.kept.keys()) {
      if (each === number || (this.kept.size <= KEPT && bytes <= KEPT_BYTES)) break;
      this.kept.delete(each);
      bytes -= weight(each);
    }
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
    const front = 8 + frontLength(index.tables[number], index.hints[number]);
    const bytes = await source.read(offset, source.whole ? length + FRAME : front);
    const block = this.#front(number, bytes);
    block.chunk = bytes;
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

  /** The payloads of `rows` of block `number`, in their order, once the checksum of its chunk is verified. */
  async payloads(number, rows) {
    const block = await this.block(number);
    block.verified ??= this.#complete(number, block.chunk);
    const bytes = await block.verified;
    return rows.map((row) => bytes.subarray(block.payloadAt[row], block.payloadAt[row + 1]));
  }

  /** The payload of the chunk of a block, of which `bytes` are there already. */
  async #complete(number, bytes) {
    const offset = this.index.offsets[number];
    const length = this.index.lengths[number];
    if (bytes.length === length + FRAME) return chunkPayload(bytes, offset, 'BLCK', length);
    const rest = await this.source.read(offset + bytes.length, length + FRAME - bytes.length);
    const chunk = new Uint8Array(bytes.length + rest.length);
    chunk.set(bytes);
    chunk.set(rest, bytes.length);
    return chunkPayload(chunk, offset, 'BLCK', length);
  }
}
