// What tables are made of: columns, dictionaries, runs of seeds (spec/FORMAT.md, "Blocks").

import { need, refuse } from './errors.js';
import { CAPS } from './limits.js';

/** The next value of a table as a column: a Float64Array of n numbers in 0..top. */
export function readColumn(table, what, n, top) {
  const value = table.integerOrBytes(what, 4 * n, top, 'M15');
  const out = new Float64Array(n);
  if (typeof value === 'number') return out.fill(value);
  const width = value.length / n;
  if (width !== 1 && width !== 2 && width !== 4) refuse('M15', `the column of ${what} does not have ${n} rows`);
  let most = 0;
  let same = true;
  for (let i = 0; i < n; i++) {
    let number = value[i];
    if (width > 1) number += value[n + i] * 256;
    if (width > 2) number += value[2 * n + i] * 65536 + value[3 * n + i] * 16777216;
    out[i] = number;
    if (number > most) most = number;
    if (number !== out[0]) same = false;
  }
  const shortest = most < 256 ? 1 : most < 65536 ? 2 : 4;
  if (same || width !== shortest) refuse('M15', `the column of ${what} is longer than it needs to be`);
  if (most > top) refuse('M15', `${what} ${most} is not in 0 to ${top}`);
  return out;
}

/** The next value as runs of seeds, checked but not unpacked: [first, last, ...]. */
export function readRuns(table, cap) {
  const runs = table.integers('seeds', 2 * cap, CAPS.seed, 0, 'M16');
  need(runs.length % 2 === 0, 'M16', 'seeds are not runs');
  let count = 0;
  let end = -2;
  for (let i = 0; i < runs.length; i += 2) {
    need(runs[i] > end + 1 && runs[i + 1] >= runs[i], 'M16', 'runs of seeds do not rise');
    end = runs[i + 1];
    count += end - runs[i] + 1;
    if (count > cap) refuse('M16', `more than ${cap} seeds`);
  }
  return runs;
}

/** The seeds of checked runs. */
export function unpackRuns(runs) {
  const seeds = [];
  for (let i = 0; i < runs.length; i += 2) for (let seed = runs[i]; seed <= runs[i + 1]; seed++) seeds.push(seed);
  return seeds;
}
