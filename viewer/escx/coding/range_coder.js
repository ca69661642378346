// The binary range decoder of coding 2 (spec/FORMAT.md, "Range coder"), as learned pictures use it; maps have it inside
// their loop.

import { need } from '../errors.js';

/** Decodes choices from `bytes`, a Uint8Array. Faults break the rule `rule`; `what` names the bytes in messages. */
export class RangeDecoder {
  constructor(bytes, rule, what) {
    need(bytes.length === 0 || bytes[bytes.length - 1] !== 0, rule, `${what}: the last byte is 0`);
    Object.assign(this, { bytes, rule, what, range: -1, code: 0, at: 0 });
    for (; this.at < 4; this.at++) this.code = (this.code << 8) | (bytes[this.at] ?? 0);
    need(this.code !== -1, rule, `${what}: the bytes begin with FF FF FF FF`);
  }

  /** The next choice, 0 or 1; `probability` is that of 0 in 1/65536. */
  choice(probability) {
    const bound = Math.imul(this.range >>> 16, probability);
    let second = 0;
    if (this.code >>> 0 < bound >>> 0) {
      this.range = bound;
    } else {
      second = 1;
      this.code = (this.code - bound) | 0;
      this.range = (this.range - bound) | 0;
    }
    while (this.range >>> 24 === 0) {
      this.code = (this.code << 8) | (this.at < this.bytes.length ? this.bytes[this.at] : 0);
      this.range <<= 8;
      this.at++;
    }
    return second;
  }

  /** Refuses bytes whose end is not the one that an encoder chooses. */
  end() {
    checkEnd(this.bytes, this.at, this.code >>> 0, this.range >>> 0, this.rule, this.what);
  }
}

/** Refuses bytes whose end is not the one that an encoder chooses: the number in [low, low + R) with most zero bits. */
export function checkEnd(bytes, at, code, range, rule, what) {
  need(bytes.length <= at, rule, `${what}: bytes are left over at the end`);
  let read = 0;
  for (let i = at - 4; i < at; i++) read = read * 256 + (i < bytes.length ? bytes[i] : 0);
  const low = (((read - code) % 2 ** 32) + 2 ** 32) % 2 ** 32;
  let chosen = low;
  for (let zeros = 32; zeros >= 0; zeros--) {
    chosen = Math.ceil(low / 2 ** zeros) * 2 ** zeros;
    if (chosen < low + range) break;
  }
  need(chosen - low === code, rule, `${what}: the bytes end with another number than an encoder chooses`);
}
