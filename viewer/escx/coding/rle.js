// Coding 1, run lengths (spec/FORMAT.md, "Coding 1: run lengths").

import { need } from '../errors.js';
import { EdgeMap } from './edge_map.js';

const ESCAPE = 16; // bits 1 before a value that is written in full
const FULL = 26; // its bits

/** The map of `height` x `width` pixels in `bytes`, a Uint8Array. */
export function decodeRle(bytes, height, width) {
  const total = height * width;
  const map = new EdgeMap(height, width);
  const end = bytes.length * 8;
  const sums = [16, 0];
  const counts = [1, 1];
  let at = 0; // in bits
  let position = 0; // in pixels
  let colour = 0;
  let first = 1;
  const bit = (i) => (bytes[i >> 3] >> (7 - (i & 7))) & 1;
  const number = (bits) => {
    need(at + bits <= end, 'M35', 'rle: the bytes end inside a code');
    let value = 0;
    for (let i = 0; i < bits; i++) value = (value << 1) | bit(at++);
    return value;
  };
  for (;;) {
    let prefix = 0;
    while (prefix < ESCAPE && at + prefix < end && bit(at + prefix)) prefix++;
    if (at + prefix === end && prefix < 8) break;
    at += prefix;
    let k = 0;
    while (8 * counts[colour] * 2 ** k < 5 * sums[colour]) k++;
    let value = prefix * 2 ** k;
    if (prefix < ESCAPE) {
      number(1);
      value += number(k);
    } else {
      value += number(FULL);
    }
    const run = value + 1 - first;
    first = 0;
    need(position + run < total, 'M34', 'rle: a run reaches the end of the map');
    if (colour) blacken(map, position, position + run);
    position += run;
    sums[colour] += value;
    if (++counts[colour] === 32) {
      sums[colour] = Math.floor(sums[colour] / 2);
      counts[colour] = 16;
    }
    colour = 1 - colour;
  }
  if (colour) blacken(map, position, total);
  return map;
}

/** Sets the pixels from..to - 1 in scan order to 1. */
function blacken(map, from, to) {
  const { width } = map;
  while (from < to) {
    const y = Math.floor(from / width);
    const stop = Math.min(to, (y + 1) * width);
    map.fill(y, from - y * width, stop - y * width);
    from = stop;
  }
}
