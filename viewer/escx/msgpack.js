// MessagePack from front to back (spec/FORMAT.md, "Values"). Type and size of each element are checked before it is
// built, so that memory stays within a few times the caps whatever the bytes say.

import { EscxError } from './errors.js';

const DEEPEST = 64; // of what is read; what is skipped may nest without end

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Reads `bytes`, a Uint8Array. Faults are EscxErrors; `what` names the bytes in messages. */
export class Unpacker {
  constructor(bytes, what) {
    this.bytes = bytes;
    this.data = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.at = 0;
    this.what = what;
  }

  /** Throws an EscxError: of the wrong type, length or range (M53), or not well-formed (M43). */
  fail(message, rule = 'M53') {
    throw new EscxError(rule, `${this.what}: ${message}`);
  }

  /** The length of the array that begins here, least..cap; its elements are read next. */
  array(what, cap, least = 0, rule = 'M53') {
    const type = this.#byte();
    let length = -1;
    if (type >> 4 === 9) length = type & 15;
    else if (type === 0xdc) length = this.data.getUint16(this.#take(2));
    else if (type === 0xdd) length = this.data.getUint32(this.#take(4));
    if (length < 0) this.fail(`${what} is not an array`, rule);
    if (length < least || length > cap || length > this.bytes.length - this.at) {
      this.fail(`${what} is an array of ${length}, not of ${least} to ${cap}`, rule);
    }
    return length;
  }

  /** An integer in 0..top. */
  integer(what, top, rule = 'M53') {
    const type = this.#byte();
    let value = -1;
    if (type < 0x80) value = type;
    else if (type === 0xcc) value = this.data.getUint8(this.#take(1));
    else if (type === 0xcd) value = this.data.getUint16(this.#take(2));
    else if (type === 0xce) value = this.data.getUint32(this.#take(4));
    else if (type >= 0xcf && type <= 0xd3) value = this.#scalar(type);
    if (value < 0 || value > top) this.fail(`${what} is not an integer from 0 to ${top}`, rule);
    return value;
  }

  /** A Float64Array of least..cap integers in 0..top. */
  integers(what, cap, top, least = 0, rule = 'M53') {
    const length = this.array(what, cap, least, rule);
    const values = new Float64Array(length);
    for (let i = 0; i < length; i++) values[i] = this.integer(what, top, rule);
    return values;
  }

  /** A text. */
  text(what) {
    const type = this.#byte();
    const length = this.#textLength(type);
    if (length < 0) this.fail(`${what} is not a text`);
    return this.#decode(length);
  }

  /** An array of least..cap texts. */
  texts(what, cap, least = 0) {
    const length = this.array(what, cap, least);
    const values = [];
    for (let i = 0; i < length; i++) values.push(this.text(what));
    return values;
  }

  /** An integer, or the bytes of a byte string of at most `cap` bytes. */
  integerOrBytes(what, cap, top, rule = 'M53') {
    const type = this.bytes[this.at];
    if (type < 0xc4 || type > 0xc6) return this.integer(what, top, rule);
    this.at++;
    const length = this.#byteLength(type);
    if (length > cap) this.fail(`${what} has ${length} bytes, not at most ${cap}`, rule);
    const from = this.#take(length);
    return this.bytes.subarray(from, from + length);
  }

  /** Any value: a number, text, boolean, null, Uint8Array, array, or Map. Floats are instances of Number. */
  value(depth = 0) {
    if (depth > DEEPEST) this.fail('nested too deep', 'M43');
    const type = this.#byte();
    if (type < 0x80) return type;
    if (type >= 0xe0) return type - 256;
    if (type < 0x90) return this.#map(type & 15, depth);
    if (type < 0xa0) return this.#items(type & 15, depth);
    const length = this.#textLength(type);
    if (length >= 0) return this.#decode(length);
    switch (type) {
      case 0xc0:
        return null;
      case 0xc2:
        return false;
      case 0xc3:
        return true;
      case 0xc4:
      case 0xc5:
      case 0xc6: {
        const size = this.#byteLength(type);
        const from = this.#take(size);
        return this.bytes.subarray(from, from + size);
      }
      case 0xdc:
        return this.#items(this.data.getUint16(this.#take(2)), depth);
      case 0xdd:
        return this.#items(this.data.getUint32(this.#take(4)), depth);
      case 0xde:
        return this.#map(this.data.getUint16(this.#take(2)), depth);
      case 0xdf:
        return this.#map(this.data.getUint32(this.#take(4)), depth);
      default:
        return this.#scalar(type);
    }
  }

  /** Passes over `count` values of any kind; nothing may follow them. */
  end(count = 0) {
    for (let left = count; left > 0; left--) left += this.#skip();
    if (this.at !== this.bytes.length) this.fail('bytes follow the value', 'M43');
  }

  /** Passes over one value, or over the head of an array or map: returns how many values are in it. */
  #skip() {
    const type = this.#byte();
    let values = 0;
    if (type >= 0x80 && type < 0x90) values = 2 * (type & 15);
    else if (type >= 0x90 && type < 0xa0) values = type & 15;
    else if (type >= 0xa0 && type < 0xc0) this.#take(type & 31);
    else if (type === 0xc1) this.fail('a type that msgpack does not have', 'M43');
    else if (type >= 0xc4 && type <= 0xc6) this.#take(this.#byteLength(type));
    else if (type >= 0xc7 && type <= 0xc9) this.#take(this.#byteLength(type - 3) + 1);
    else if (type >= 0xca && type <= 0xd3) this.#take([4, 8, 1, 2, 4, 8, 1, 2, 4, 8][type - 0xca]);
    else if (type >= 0xd4 && type <= 0xd8) this.#take(1 + 2 ** (type - 0xd4));
    else if (type >= 0xd9 && type <= 0xdb) this.#take(this.#textLength(type));
    else if (type === 0xdc || type === 0xde) values = this.data.getUint16(this.#take(2)) * (type === 0xde ? 2 : 1);
    else if (type === 0xdd || type === 0xdf) values = this.data.getUint32(this.#take(4)) * (type === 0xdf ? 2 : 1);
    if (values > this.bytes.length - this.at) this.fail('an array or map is longer than its bytes', 'M43');
    return values;
  }

  #take(length) {
    const from = this.at;
    if (length > this.bytes.length - from) this.fail('it ends inside a value', 'M43');
    this.at = from + length;
    return from;
  }

  #byte() {
    return this.bytes[this.#take(1)];
  }

  #textLength(type) {
    if (type >> 5 === 5) return type & 31;
    if (type === 0xd9) return this.data.getUint8(this.#take(1));
    if (type === 0xda) return this.data.getUint16(this.#take(2));
    if (type === 0xdb) return this.data.getUint32(this.#take(4));
    return -1;
  }

  #byteLength(type) {
    if (type === 0xc4) return this.data.getUint8(this.#take(1));
    return type === 0xc5 ? this.data.getUint16(this.#take(2)) : this.data.getUint32(this.#take(4));
  }

  #decode(length) {
    const from = this.#take(length);
    try {
      return utf8.decode(this.bytes.subarray(from, from + length));
    } catch {
      return this.fail('a text is not UTF-8', 'M43');
    }
  }

  #scalar(type) {
    switch (type) {
      case 0xca:
        return new Number(this.data.getFloat32(this.#take(4))); // eslint-disable-line no-new-wrappers -- no integer
      case 0xcb:
        return new Number(this.data.getFloat64(this.#take(8))); // eslint-disable-line no-new-wrappers
      case 0xcc:
        return this.data.getUint8(this.#take(1));
      case 0xcd:
        return this.data.getUint16(this.#take(2));
      case 0xce:
        return this.data.getUint32(this.#take(4));
      case 0xcf:
        return Number(this.data.getBigUint64(this.#take(8)));
      case 0xd0:
        return this.data.getInt8(this.#take(1));
      case 0xd1:
        return this.data.getInt16(this.#take(2));
      case 0xd2:
        return this.data.getInt32(this.#take(4));
      case 0xd3:
        return Number(this.data.getBigInt64(this.#take(8)));
      default:
        return this.fail(`a value of the extension type or none (${type.toString(16)})`, 'M43');
    }
  }

  #items(length, depth) {
    if (length > this.bytes.length - this.at) this.fail('an array is longer than its bytes', 'M43');
    const items = [];
    for (let i = 0; i < length; i++) items.push(this.value(depth + 1));
    return items;
  }

  #map(length, depth) {
    if (2 * length > this.bytes.length - this.at) this.fail('a map is longer than its bytes', 'M43');
    const map = new Map();
    for (let i = 0; i < length; i++) {
      const key = this.value(depth + 1);
      if (typeof key !== 'string' || map.has(key)) this.fail('a key repeats, or is not a text', 'M43');
      map.set(key, this.value(depth + 1));
    }
    return map;
  }
}
