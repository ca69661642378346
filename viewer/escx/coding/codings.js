// The codings by number.

import { EscxError, need } from '../errors.js';
import { decodeContext } from './context.js';
import { decodePacked } from './packed.js';
import { decodeRle } from './rle.js';

/** The codings' names; the place of each is its number in files. */
export const CODINGS = Object.freeze(['packed', 'rle', 'context']);

/** The edge map in `bytes`. `tables`: the prior, which coding 2 needs. */
export function decodeMap(coding, bytes, height, width, tables) {
  if (coding === 0) return decodePacked(bytes, height, width);
  if (coding === 1) return decodeRle(bytes, height, width);
  if (coding !== 2) throw new EscxError('M31', `an edge map under coding ${coding}, which this viewer does not know`);
  need(tables, '', 'the prior of coding 2 is not loaded');
  return decodeContext(bytes, height, width, tables);
}
