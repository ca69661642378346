// Preamble, chunks and trailer (spec/FORMAT.md, "File", "Chunks", "Trailer").

import { crc32, u16, u32, u64 } from './bytes.js';
import { EscxError, need } from './errors.js';
import { CAPS } from './limits.js';

const SIGNATURE = [0x89, 0x45, 0x53, 0x58, 0x0d, 0x0a, 0x1a, 0x0a];
const MAJOR = 1;

/** Bytes before the first chunk; of a chunk beside its payload; of a trailer. */
export const PREAMBLE = 12;
export const FRAME = 12;
export const TAIL = 28;

const NAMES = { HEAD: 'the head', RECP: 'a recipe', BLCK: 'a block', INDX: 'the index', TAIL: 'a trailer' };

/** The types that the specification names. */
export const KNOWN = Object.freeze(['HEAD', 'RECP', 'BLCK', 'INDX', 'TAIL']);

/** The minor version in the first bytes of a file. */
export function checkPreamble(bytes) {
  const signed = bytes.length >= SIGNATURE.length && SIGNATURE.every((value, i) => bytes[i] === value);
  need(signed, 'M1', bytes.length ? 'this is not an .escx file: it does not begin with the signature' : 'the file is empty');
  if (bytes.length < PREAMBLE) throw new EscxError('M10', 'the file is cut off after its signature', { unfinished: true });
  const major = u16(bytes, 8);
  need(major === MAJOR, 'M2', `the file has version ${major}, which this viewer does not know`);
  return u16(bytes, 10);
}

/** {type, length, offset, end} of the chunk whose first 8 bytes are `bytes`. */
export function chunkHead(bytes, offset) {
  if (bytes.length < 8) throw new EscxError('M4', `the file ends inside a chunk (at byte ${offset})`, { offset, unfinished: true });
  const type = String.fromCharCode(...bytes.subarray(0, 4));
  const length = u32(bytes, 4);
  if (length > CAPS.chunk) throw new EscxError('M7', `a chunk of ${length} bytes is above the cap (at byte ${offset})`, { offset });
  return { type, length, offset, end: offset + length + FRAME };
}

/** Refuses a chunk whose type is not four letters (M39), or that is unknown and must not be skipped (M6). */
export function checkType({ type, offset }) {
  const letters = /^[A-Za-z]{4}$/.test(type);
  if (letters && (KNOWN.includes(type) || /^[a-z]/.test(type))) return;
  throw new EscxError(letters ? 'M6' : 'M39', `a chunk of the unknown type ${JSON.stringify(type)} (at byte ${offset})`, { offset });
}

/** The payload of the whole chunk in `bytes`, its checksum verified; it must be of this type and length. */
export function chunkPayload(bytes, offset, type, length) {
  const place = { offset };
  if (bytes.length < length + FRAME) {
    throw new EscxError('M4', `the file ends inside a ${type} chunk (at byte ${offset})`, place);
  }
  const head = chunkHead(bytes, offset);
  if (head.type !== type || head.length !== length) {
    throw new EscxError('M23', `no ${type} chunk of ${length} bytes stands at byte ${offset}, where it should`, place);
  }
  if (crc32(bytes.subarray(0, length + 8)) !== u32(bytes, length + 8)) {
    throw new EscxError('M4', `${NAMES[type] ?? 'a chunk'} is damaged: its checksum is wrong (chunk at byte ${offset})`, place);
  }
  return bytes.subarray(8, length + 8);
}

/** The offset of the index, from the last 28 bytes of a file of `size` bytes. */
export function readTail(bytes, size) {
  const head = bytes.length === TAIL && String.fromCharCode(...bytes.subarray(0, 4)) === 'TAIL' && u32(bytes, 4) === 16;
  if (!head) {
    const why = 'the file has no end: it is still being written, its writer was killed, or it was cut off';
    throw new EscxError('M10', why, { unfinished: true });
  }
  need(crc32(bytes.subarray(0, 24)) === u32(bytes, 24), 'M4', 'the trailer is damaged: its checksum is wrong');
  const at = u64(bytes, 8);
  need(u64(bytes, 16) === size, 'M11', `the file has ${size} bytes, but its trailer says ${u64(bytes, 16)}`);
  need(at >= PREAMBLE && at + FRAME + TAIL <= size, 'M11', 'the trailer names an index outside the file');
  return at;
}
