// Bytes of pictures to bitmaps, by the browser's own decoders.

import { EscxError, need } from '../escx/errors.js';
import { rebuildHint } from '../escx/hint.js';

/** The bitmap of an image file; `what` names it in messages. */
export async function decodeImage(bytes, type, what, options = {}) {
  try {
    return await createImageBitmap(new Blob([bytes], { type }), options);
  } catch {
    throw new EscxError('M29', `${what} cannot be decoded by this browser`);
  }
}

/** The bitmap of a hint that was rebuilt: {file, width, height}. */
export async function decodeRebuilt({ file, width, height }) {
  const bitmap = await decodeImage(file, 'image/webp', 'the hint');
  const same = bitmap.width === width && bitmap.height === height;
  if (!same) bitmap.close();
  need(same, 'M29', 'the hint decodes to another size than its header says');
  return bitmap;
}

/** The bitmap of a hint. */
export function decodeHint(bytes) {
  return decodeRebuilt(rebuildHint(bytes));
}
