// Blocks: a table of rows, their hints, their payloads (spec/FORMAT.md, "Blocks").

import { compareTexts, crc32, u32 } from './bytes.js';
import { decodeMap } from './coding/codings.js';
import { need, refuse } from './errors.js';
import { CAPS, checkClassName, checkLength, checkName, checkSize } from './limits.js';
import { Unpacker } from './msgpack.js';
import { readColumn, readRuns, unpackRuns } from './table.js';
import { unzstd } from './zstd.js';

/** The kinds of exemplars and the codecs of hints; the place of each is its number in files. */
export const KINDS = Object.freeze(['prompt', 'real', 'latent']);
export const HINT_CODECS = Object.freeze(['vp8', 'latent']);

const COLUMNS = 18;
const MOST_COLUMNS = 1024; // later minor versions may add columns

/** Bytes of a block before its table, and of each checksum in it. */
const LENGTHS = 8;
const SUM = 4;

/** Bytes of a block's payload up to and including its hints' checksum. */
export function frontLength(table, hints) {
  return LENGTHS + table + SUM + hints + SUM;
}

/**
 * The rows of a block, from the front of its payload: `bytes` are all of the payload, or as far as its hints.
 *
 * `length` is the length of the whole payload and `recipes` the number of recipes in the file. Every rule about single
 * blocks is checked. Row i has the i-th entry of each column.
 */
export class Block {
  constructor(bytes, length, recipes) {
    need(bytes.length >= LENGTHS + SUM, 'M12', 'a block has no table');
    this.tableBytes = u32(bytes, 0);
    this.hintBytes = u32(bytes, 4);
    const front = frontLength(this.tableBytes, this.hintBytes);
    need(front <= length && front <= bytes.length, 'M12', 'the table and the hints of a block are longer than the block');
    const end = LENGTHS + this.tableBytes;
    const hints = end + SUM;
    need(crc32(bytes.subarray(0, end)) === u32(bytes, end), 'M37', 'the table of a block is damaged: its checksum is wrong');
    this.hints = bytes.subarray(hints, hints + this.hintBytes);
    need(crc32(this.hints) === u32(bytes, front - SUM), 'M37', 'the hints of a block are damaged: their checksum is wrong');
    this.payloadStart = front;
    const content = unzstd(bytes.subarray(LENGTHS, end), CAPS.table, 'the table of a block');
    this.memory = content.length + this.hintBytes; // roughly
    this.#read(content, recipes);
    this.#check();
    this.#place(length);
  }

  #read(content, recipes) {
    const table = new Unpacker(content, 'the table of a block');
    const columns = table.array('the table', MOST_COLUMNS, COLUMNS);
    const n = table.integer('the number of rows', CAPS.exemplars);
    need(n > 0, 'M53', 'a block has no rows');
    need(n <= CAPS.rows, 'M26', `a block of ${n} rows is above the cap`);
    const column = (what, top) => readColumn(table, what, n, top);
    this.length = n;
    this.classes = table.texts('class names', n, 1);
    this.class = column('class', this.classes.length - 1);
    this.names = table.texts('names', n);
    this.kind = column('kind', KINDS.length - 1);
    this.prompts = table.texts('prompts', n);
    this.prompt = column('prompt', this.prompts.length);
    this.height = column('height', CAPS.side);
    this.width = column('width', CAPS.side);
    this.mapHeight = column('map height', CAPS.side);
    this.mapWidth = column('map width', CAPS.side);
    this.coding = column('coding', 0xffff);
    this.payloadLength = column('payload length', CAPS.payload);
    this.hintLength = column('hint length', CAPS.hint);
    this.hintCodec = column('hint codec', 0xff);
    table.array('seeds', 2, 2);
    this.seedRuns = [];
    for (let i = table.array('runs of seeds', n, 1); i > 0; i--) this.seedRuns.push(readRuns(table, CAPS.seeds));
    this.seeds = column('seeds', this.seedRuns.length - 1);
    table.array('settings', 2, 2);
    this.allSettings = [];
    for (let i = table.array('settings', n); i > 0; i--) this.allSettings.push(table.integers('settings', 4, 0xffff, 4));
    this.settings = column('settings', this.allSettings.length);
    this.recipe = column('recipe', recipes - 1);
    table.end(columns - COLUMNS);
  }

  #check() {
    const n = this.length;
    need(this.names.length === 0 || this.names.length === n, 'M53', `${this.names.length} names for ${n} rows`);
    need(!this.names.length || this.names.some((name) => name), 'M41', 'a block lists names, but all are empty');
    this.classes.forEach(checkClassName);
    this.names.forEach(checkName);
    for (const text of this.prompts) checkLength('prompt', text, CAPS.prompt);
    checkDictionary('class names', this.classes, this.class, 0);
    checkDictionary('prompts', this.prompts, this.prompt, 1);
    checkDictionary('seeds', this.seedRuns, this.seeds, 0);
    checkDictionary('settings', this.allSettings, this.settings, 1);
    for (let i = 0; i < n; i++) {
      need(!this.prompt[i] || this.promptOf(i) !== this.classOf(i), 'M41', "a prompt repeats its row's class name");
      this.#checkRow(i);
    }
  }

  #checkRow(i) {
    checkSize('an image', this.height[i], this.width[i]);
    checkSize('an edge map', this.mapHeight[i], this.mapWidth[i]);
    const own = this.mapHeight[i] || this.mapWidth[i];
    const half = !this.mapHeight[i] || !this.mapWidth[i];
    const repeats = this.mapHeight[i] === this.height[i] && this.mapWidth[i] === this.width[i];
    need(!own || !(half || repeats), 'M46', "a map's size is incomplete, or repeats its image's");
    const made = this.settings[i];
    if (this.kind[i] === 0) {
      need(made, 'M47', 'a prompt does not say how its map was made');
    } else {
      const plain = !made && !this.hintLength[i] && !this.coding[i] && !own;
      need(plain, 'M17', "a real or latent exemplar has an edge map's fields");
      need(this.payloadLength[i], 'M17', 'a real or latent exemplar is empty');
    }
    need(this.hintLength[i] || !this.hintCodec[i], 'M17', 'a row without a hint names its codec');
    need(this.payloadLength[i] + this.hintLength[i] <= CAPS.payload, 'M26', 'an exemplar is above the cap');
  }

  #place(length) {
    const n = this.length;
    this.payloadAt = new Float64Array(n + 1);
    this.hintAt = new Float64Array(n + 1);
    this.payloadAt[0] = this.payloadStart;
    for (let i = 0; i < n; i++) {
      this.payloadAt[i + 1] = this.payloadAt[i] + this.payloadLength[i];
      this.hintAt[i + 1] = this.hintAt[i] + this.hintLength[i];
    }
    need(this.hintAt[n] === this.hintBytes, 'M12', 'the lengths of the hints of a block do not add up');
    need(this.payloadAt[n] === length, 'M12', 'the lengths of the payloads of a block do not add up');
  }

  /** The class name of row i. */
  classOf(i) {
    return this.classes[this.class[i]];
  }

  /** The name of row i, or ''. */
  nameOf(i) {
    return this.names.length ? this.names[i] : '';
  }

  /** The prompt of row i. */
  promptOf(i) {
    return this.prompt[i] ? this.prompts[this.prompt[i] - 1] : this.classOf(i);
  }

  /** Class and name of row i. */
  keyOf(i) {
    return `${this.classOf(i)}/${this.nameOf(i)}`;
  }

  /** The bytes of the hint of row i, or null. */
  hintOf(i) {
    return this.hintLength[i] ? this.hints.subarray(this.hintAt[i], this.hintAt[i + 1]) : null;
  }

  /** [height, width] of the edge map of row i. */
  mapSizeOf(i) {
    return this.mapHeight[i] ? [this.mapHeight[i], this.mapWidth[i]] : [this.height[i], this.width[i]];
  }

  /** All facts of row i but its bytes, as a plain object. */
  row(i) {
    const made = this.settings[i] ? this.allSettings[this.settings[i] - 1] : null;
    const kind = KINDS[this.kind[i]];
    return {
      kind,
      class: this.classOf(i),
      name: this.nameOf(i),
      prompt: this.promptOf(i),
      size: [this.height[i], this.width[i]],
      mapSize: kind === 'prompt' ? this.mapSizeOf(i) : null,
      coding: kind === 'prompt' ? this.coding[i] : null,
      payloadLength: this.payloadLength[i],
      hintLength: this.hintLength[i],
      hintCodec: this.hintLength[i] ? this.hintCodec[i] : null,
      seedRuns: Array.from(this.seedRuns[this.seeds[i]]),
      made: made && { low: made[0], high: made[1], blur: made[2] / 100, min_contour: made[3] },
      recipe: this.recipe[i],
    };
  }

  /** The seeds of row i. */
  seedsOf(i) {
    return unpackRuns(this.seedRuns[this.seeds[i]]);
  }

  /** The edge map of row i from its payload. `tables`: the prior of coding 2, an Int8Array. */
  mapOf(i, payload, tables) {
    return decodeMap(this.coding[i], payload, ...this.mapSizeOf(i), tables);
  }

  /** [smallest, largest] key by code point. */
  keyRange() {
    if (this.classes.length === 1) {
      const [low, high] = range(this.names.length ? this.names : ['']);
      return [`${this.classes[0]}/${low}`, `${this.classes[0]}/${high}`];
    }
    return range(Array.from({ length: this.length }, (_, i) => this.keyOf(i)));
  }
}

/** The smallest and the largest text. */
function range(texts) {
  let low = texts[0];
  let high = low;
  for (const text of texts) {
    if (compareTexts(text, low) < 0) low = text;
    if (compareTexts(text, high) > 0) high = text;
  }
  return [low, high];
}

/** Refuses a dictionary with a value twice, without use, or not in the order of first use; rows number it from `base`. */
function checkDictionary(what, values, column, base) {
  const distinct = new Set(typeof values[0] === 'string' ? values : values.map(String));
  if (distinct.size !== values.length) refuse('M40', `the ${what} hold a value twice`);
  let next = base;
  for (const number of column) {
    if (number > next) refuse('M40', `the ${what} are not in the order of their first use`);
    if (number === next) next++;
  }
  if (next !== values.length + base) refuse('M40', `the ${what} hold a value that no row uses`);
}
