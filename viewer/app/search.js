// Which exemplars of a block a filter lets through, and what the block's bytes are spent on.

/**
 * {numbers, sizes} of a block that begins with exemplar `start`.
 *
 * `filter`: {className, kind, text}, each null or '' where it lets all through; text is in lower case. `sizes`: bytes of
 * maps, hints, images and pictures, and how many exemplars of each kind there are.
 */
export function searchBlock(block, { className, kind, text }, start) {
  const classes = block.classes.map((name) => className === null || name === className);
  const inClass = block.classes.map((name) => !text || name.toLowerCase().includes(text));
  const inPrompt = block.prompts.map((prompt) => Boolean(text) && prompt.toLowerCase().includes(text));
  const numbers = [];
  const sizes = { maps: 0, hints: block.hintBytes, images: 0, pictures: 0, kinds: [0, 0, 0] };
  const parts = ['maps', 'images', 'pictures'];
  for (let i = 0; i < block.length; i++) {
    sizes[parts[block.kind[i]]] += block.payloadLength[i];
    sizes.kinds[block.kind[i]]++;
    if (!classes[block.class[i]] || (kind !== null && block.kind[i] !== kind)) continue;
    const hit =
      inClass[block.class[i]] ||
      (block.prompt[i] > 0 && inPrompt[block.prompt[i] - 1]) ||
      (block.names.length > 0 && block.names[i].toLowerCase().includes(text));
    if (hit) numbers.push(start + i);
  }
  return { numbers: Float64Array.from(numbers), sizes };
}
