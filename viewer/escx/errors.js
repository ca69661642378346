// The error of a file that breaks the format, and the check that raises it.

/** A fault in a file. `rule` is the number in spec/FORMAT.md, such as 'M12', or ''. `offset` is the chunk's, or -1. */
export class EscxError extends Error {
  constructor(rule, message, { offset = -1, unfinished = false } = {}) {
    super(message);
    this.name = 'EscxError';
    this.rule = rule;
    this.offset = offset;
    this.unfinished = unfinished;
  }
}

/** Throws an EscxError. */
export function refuse(rule, message, place) {
  throw new EscxError(rule, message, place);
}

/** Throws an EscxError unless `ok`. */
export function need(ok, rule, message) {
  if (!ok) throw new EscxError(rule, message);
}
