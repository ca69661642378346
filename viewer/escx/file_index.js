// The index: where each block is and what it holds (spec/FORMAT.md, "Index").

import { compareTexts } from './bytes.js';
import { frontLength } from './block.js';
import { need, refuse } from './errors.js';
import { FRAME, PREAMBLE } from './layout.js';
import { CAPS, checkClassName } from './limits.js';
import { Unpacker } from './msgpack.js';
import { readRuns } from './table.js';
import { unzstd } from './zstd.js';

const COLUMNS = 12;
const MOST_COLUMNS = 1024;
const MOST_KEY = CAPS.className + 1 + CAPS.name;

/**
 * The index in the payload of an INDX chunk at byte `end` of the file.
 *
 * Offsets are of chunks, lengths of payloads; the arrays have one entry for each block. Block b begins with exemplar
 * `starts[b]`. `members[b]` is [class, count, class, count, ...].
 */
export class Index {
  constructor(payload, end) {
    const table = new Unpacker(unzstd(payload, CAPS.index, 'the index'), 'the index');
    const columns = table.array('the index', MOST_COLUMNS, COLUMNS);
    const most = Math.floor(end / FRAME); // no more chunks have room before the index
    this.total = table.integer('the number of exemplars', CAPS.exemplars);
    this.recipes = table.integers('offsets of recipes', Math.min(most, CAPS.recipes), end);
    const recipes = this.recipes.length;
    this.recipeLengths = table.integers('lengths of recipes', recipes, CAPS.recipe, recipes);
    this.offsets = table.integers('offsets of blocks', most, end);
    const n = this.offsets.length;
    this.lengths = table.integers('lengths of blocks', n, CAPS.chunk, n);
    this.tables = table.integers('lengths of tables', n, CAPS.chunk, n);
    this.hints = table.integers('lengths of hints', n, CAPS.chunk, n);
    this.counts = table.integers('exemplars of blocks', n, CAPS.rows, n);
    this.classes = table.texts('class names', Math.min(this.total, CAPS.classes));
    this.#checkPlaces(end);
    this.#checkCounts();
    this.#readMembers(table);
    table.array('keys', 2, 2);
    this.low = table.texts('smallest keys', n, n);
    this.high = table.texts('largest keys', n, n);
    for (let i = 0; i < n; i++) {
      need(this.low[i].length <= MOST_KEY && this.high[i].length <= MOST_KEY, 'M26', 'the index has a key above the cap');
      need(compareTexts(this.low[i], this.high[i]) <= 0, 'M22', "the index's smallest and largest keys are wrong");
    }
    this.seeds = readRuns(table, CAPS.indexSeeds);
    table.end(columns - COLUMNS);
  }

  #checkPlaces(end) {
    let all = 0;
    for (const length of this.recipeLengths) all += length;
    need(all <= CAPS.allRecipes, 'M26', 'the recipes are above the cap');
    let at = PREAMBLE;
    let recipe = 0;
    let block = 0;
    while (recipe < this.recipes.length || block < this.offsets.length) {
      const first = block === this.offsets.length || this.recipes[recipe] < this.offsets[block];
      const offset = first ? this.recipes[recipe] : this.offsets[block];
      if (offset < at) refuse('M21', `chunks overlap or are out of order in the index (at byte ${offset})`);
      at = offset + FRAME + (first ? this.recipeLengths[recipe++] : this.lengths[block++]);
    }
    need(at <= end, 'M21', 'a chunk reaches into the index');
    for (let i = 0; i < this.offsets.length; i++) {
      const front = frontLength(this.tables[i], this.hints[i]);
      need(front <= this.lengths[i], 'M22', 'a table and its hints are longer than their block');
    }
  }

  #checkCounts() {
    this.starts = new Float64Array(this.counts.length + 1);
    for (let i = 0; i < this.counts.length; i++) {
      need(this.counts[i], 'M22', 'the index names a block without exemplars');
      this.starts[i + 1] = this.starts[i] + this.counts[i];
    }
    need(this.starts.at(-1) === this.total, 'M22', 'the counts of the index do not add up');
  }

  #readMembers(table) {
    const names = this.classes.length;
    this.classes.forEach(checkClassName);
    need(new Set(this.classes).size === names, 'M49', 'the index names a class twice');
    this.classCounts = new Float64Array(names);
    this.members = [];
    let used = 0;
    const blocks = this.counts.length;
    table.array('classes of blocks', blocks, blocks);
    for (let i = 0; i < blocks; i++) {
      const most = 2 * Math.min(this.counts[i], names);
      const flat = table.integers('classes of a block', most, CAPS.classes, 2, 'M22');
      const seen = new Set();
      let sum = 0;
      need(flat.length % 2 === 0, 'M22', 'the classes of a block do not add up');
      for (let j = 0; j < flat.length; j += 2) {
        const number = flat[j];
        need(number < names && flat[j + 1] && !seen.has(number), 'M22', 'the classes of a block do not add up');
        need(number <= used, 'M49', 'the class names of the index are not in the order of their first use');
        if (number === used) used++;
        seen.add(number);
        sum += flat[j + 1];
        this.classCounts[number] += flat[j + 1];
      }
      need(sum === this.counts[i], 'M22', 'the classes of a block do not add up');
      this.members.push(flat);
    }
    need(used === names, 'M49', 'the index names a class that no block holds');
  }

  /** [block, row] of exemplar `number`. */
  find(number) {
    let low = 0;
    let high = this.counts.length;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (this.starts[middle] <= number) low = middle;
      else high = middle;
    }
    return [low, number - this.starts[low]];
  }

  /** Refuses a block that is not what the index says (M23). */
  checkBlock(number, block) {
    const counts = new Map();
    for (const each of block.class) counts.set(each, (counts.get(each) ?? 0) + 1);
    const members = this.members[number];
    const lengths = block.tableBytes === this.tables[number] && block.hintBytes === this.hints[number];
    let same = lengths && block.length === this.counts[number] && 2 * counts.size === members.length;
    [...counts].forEach(([each, count], i) => {
      same &&= this.classes[members[2 * i]] === block.classes[each] && members[2 * i + 1] === count;
    });
    const [low, high] = block.keyRange();
    same &&= low === this.low[number] && high === this.high[number];
    same &&= block.seedRuns.every((runs) => this.#hasSeeds(runs));
    need(same, 'M23', 'a block is not what the index says');
    const recipe = block.recipe.reduce((one, other) => Math.max(one, other));
    need(this.recipes[recipe] < this.offsets[number], 'M23', 'the recipe of a block comes after it');
  }

  #hasSeeds(runs) {
    for (let i = 0; i < runs.length; i += 2) {
      let low = 0;
      let high = this.seeds.length / 2;
      while (low < high) {
        const middle = (low + high) >> 1;
        if (this.seeds[2 * middle + 1] < runs[i]) low = middle + 1;
        else high = middle;
      }
      if (2 * low >= this.seeds.length || this.seeds[2 * low] > runs[i] || this.seeds[2 * low + 1] < runs[i + 1]) return false;
    }
    return true;
  }
}
