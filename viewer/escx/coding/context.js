// Coding 2, `context` (spec/FORMAT.md, "Coding 2: context"): a trained prior, adaptation, a binary range coder.
//
// Numbers are signed 32-bit integers wherever the loop can keep them so: an unsigned value has `>>> 0` where it is
// compared. Rows are bits; five registers hold 32 pixels each of the rows above, and a context is cut out by shifts.

import { need } from '../errors.js';
import { EdgeMap } from './edge_map.js';
import { checkEnd } from './range_coder.js';

/** Entries of one table, and of all five: signed bytes. */
const ENTRIES = 65536;
export const PRIOR_BYTES = 5 * ENTRIES;

/** Probability of a 0 in 1/65536, by logit. */
const SQUASH = Uint16Array.from({ length: 6144 }, (_, i) =>
  Math.min(65530, Math.max(6, Math.floor(65536 / (1 + Math.exp((i - 3071.5) / 256)) + 0.5))),
);
const WIDE = 4096; // biases of the wide window; the narrow window's stand behind them

/** The map of `height` x `width` pixels in `bytes`, a Uint8Array; `tables`: Int8Array, the prior's tables in a row. */
export function decodeContext(bytes, height, width, tables) {
  const length = bytes.length;
  const map = new EdgeMap(height, width);
  if (height * width === 0) {
    need(length === 0, 'M36', 'context: bytes for a map without pixels');
    return map;
  }
  need(length === 0 || bytes[length - 1] !== 0, 'M36', 'context: the last byte is 0');
  const { words, stride } = map;
  const bias = new Int32Array(WIDE + 64);
  const near = new Int32Array(stride + 1); // the four rows above, or-ed, with the margins of a row
  let gain = 1048576;
  let block = 64500;
  let range = -1; // 2^32 - 1
  let code = 0;
  let at = 0;
  for (; at < 4; at++) code = (code << 8) | (at < length ? bytes[at] : 0);
  need(code !== -1, 'M36', 'context: the bytes begin with FF FF FF FF');
  for (let y = 0; y < height; y++) {
    const row = map.start(y);
    const one = row - stride;
    const two = one - stride;
    const three = two - stride;
    const four = three - stride;
    const five = four - stride;
    for (let i = 0; i < stride; i++) near[i] = words[one - 1 + i] | words[two - 1 + i] | words[three - 1 + i] | words[four - 1 + i];
    const gainHigh = gain >> 8; // S * G needs 33 bits: it is taken in two halves
    const gainLow = gain & 255;
    let slope = 0; // needs more than 32 bits
    let group = -1; // of 16 pixels: the registers hold its pixels and 8 on either side
    let a = 0;
    let b = 0;
    let c = 0;
    let d = 0;
    let e = 0;
    let held = 0; // the pixels before x in its row, x - 1 lowest
    let quietFrom = 0; // no quiet block begins before this column
    let x = 0;
    while (x < width) {
      if (x >= quietFrom && (held & 15) === 0) {
        const i = (x + 28) >> 5; // columns x - 4 to x + 11
        const shift = (x + 28) & 31;
        const seen = ((near[i] << shift) | ((near[i + 1] >>> 1) >>> (31 - shift))) >>> 16;
        if (seen === 0) {
          const n = width - x < 8 ? width - x : 8;
          const bound = Math.imul(range >>> 16, block);
          if (code >>> 0 < bound >>> 0) {
            range = bound;
            block += (65472 - block) >> 6;
            held = 0;
            x += n;
          } else {
            code = (code - bound) | 0;
            range = (range - bound) | 0;
            block -= block >> 6;
            while (range >>> 24 === 0) {
              code = (code << 8) | (at < length ? bytes[at] : 0);
              range <<= 8;
              at++;
            }
            const share = ((range >>> 0) / n) >>> 0;
            let first = ((code >>> 0) / share) >>> 0;
            if (first >= n) first = n - 1;
            const below = Math.imul(share, first);
            code = (code - below) | 0;
            range = first < n - 1 ? share | 0 : (range - below) | 0;
            x += first;
            words[row + (x >> 5)] |= 0x80000000 >>> (x & 31);
            held = 1;
            x++;
          }
          while (range >>> 24 === 0) {
            code = (code << 8) | (at < length ? bytes[at] : 0);
            range <<= 8;
            at++;
          }
          continue;
        }
        quietFrom = x + 16 - (31 - Math.clz32(seen & -seen)); // the last 1 that was seen, and 5 columns
      }
      if (x >> 4 !== group) {
        group = x >> 4;
        const i = (group >> 1) - 1 + (group & 1);
        const shift = group & 1 ? 8 : 24;
        const other = 32 - shift;
        a = (words[one + i] << shift) | (words[one + i + 1] >>> other);
        b = (words[two + i] << shift) | (words[two + i + 1] >>> other);
        c = (words[three + i] << shift) | (words[three + i + 1] >>> other);
        d = (words[four + i] << shift) | (words[four + i + 1] >>> other);
        e = (words[five + i] << shift) | (words[five + i + 1] >>> other);
      }
      const back = 17 - (x & 15); // shifted by it, a register ends with the pixel x + 6
      const p = a >>> back;
      const q = b >>> back;
      const r = c >>> back;
      const s = d >>> back;
      const last = held & 3;
      const wide = ((q << 3) & 0xf80) | ((p >>> 2) & 0x7c) | last;
      const narrow = WIDE | ((q >>> 1) & 0x20) | ((p >>> 3) & 0x1c) | last;
      const sum =
        tables[((q << 7) & 0xf800) | ((p << 1) & 0x7f0) | (held & 15)] +
        tables[0x10000 | ((r << 7) & 0xf800) | ((q << 2) & 0x7c0) | ((p >>> 2) & 0x3c) | last] +
        tables[0x20000 | ((q << 9) & 0xfc00) | ((p << 2) & 0x3fc) | last] +
        tables[0x30000 | ((q << 4) & 0xf800) | (p & 0x7e0) | (held & 31)] +
        tables[0x40000 | (((e >>> back) << 8) & 0xe000) | ((s << 4) & 0x1f00) | (r & 0xe0) | ((p >>> 3) & 0x1c) | last];
      const logit = (Math.imul(sum, gainHigh) + (Math.imul(sum, gainLow) >> 8) + bias[wide] + bias[narrow]) >> 8;
      const zero = SQUASH[logit < -3072 ? 0 : logit > 3071 ? 6143 : logit + 3072];
      const bound = Math.imul(range >>> 16, zero);
      let error = zero;
      if (code >>> 0 < bound >>> 0) {
        range = bound;
        error -= 65536;
        held <<= 1;
      } else {
        code = (code - bound) | 0;
        range = (range - bound) | 0;
        words[row + (x >> 5)] |= 0x80000000 >>> (x & 31);
        held = (held << 1) | 1;
      }
      while (range >>> 24 === 0) {
        code = (code << 8) | (at < length ? bytes[at] : 0);
        range <<= 8;
        at++;
      }
      bias[wide] += (3 * error + 32) >> 6;
      bias[narrow] += (2 * error + 32) >> 6;
      slope += Math.imul(error, sum);
      x++;
    }
    gain = Math.min(Math.max(gain + Math.floor(slope / 512), 262144), 4194304);
  }
  checkEnd(bytes, at, code >>> 0, range >>> 0, 'M36', 'context');
  return map;
}
