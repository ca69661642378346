// Scrolling through more pixels than a browser lets an element have.
//
// Up to LONGEST pixels the element is as tall as its content. Above that its scrollbar stands for the whole content in
// proportion, while small movements (wheel, touch, keys) move the content by exactly as many pixels.

const LONGEST = 4000000;
const SETTLE = 150; // milliseconds without movement after which position and scrollbar are brought together

/** Scrolls `box`, an element that holds `spacer`; calls `onMove` when the content moved. */
export class Scroller {
  constructor(box, spacer, onMove) {
    this.box = box;
    this.spacer = spacer;
    this.onMove = onMove;
    this.content = 0;
    this.top = 0; // of the content's visible part, in pixels of the content
    this.last = 0; // scrollTop that has been taken into account
    this.timer = 0;
    box.addEventListener('scroll', () => this.#moved(), { passive: true });
  }

  get view() {
    return this.box.clientHeight;
  }

  /** Sets the height of the content and keeps the position where it can. */
  resize(content) {
    this.content = content;
    this.spacer.style.height = `${Math.min(content, LONGEST)}px`;
    this.go(this.top);
  }

  /** Goes to a position. */
  go(top) {
    this.top = Math.max(0, Math.min(top, this.content - this.view));
    this.#align();
    this.onMove();
  }

  /** Where in the spacer the content's pixel `top` stands now. */
  place(top) {
    return this.last + top - this.top;
  }

  get #ratio() {
    const long = this.content - this.view;
    const short = Math.min(this.content, LONGEST) - this.view;
    return short > 0 ? long / short : 1;
  }

  #align() {
    this.box.scrollTop = this.top / this.#ratio;
    this.last = this.box.scrollTop;
  }

  #moved() {
    const now = this.box.scrollTop;
    const moved = now - this.last;
    if (!moved) return;
    this.last = now;
    if (this.content <= LONGEST) {
      this.top = now;
    } else {
      const small = Math.abs(moved) <= 2 * this.view;
      const ends = now <= 0 || now >= this.box.scrollHeight - this.view - 1;
      this.top = small && !ends ? this.top + moved : now * this.#ratio;
      this.top = Math.max(0, Math.min(this.top, this.content - this.view));
      clearTimeout(this.timer);
      this.timer = setTimeout(() => {
        this.#align();
        this.onMove();
      }, SETTLE);
    }
    this.onMove();
  }
}
