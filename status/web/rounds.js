// The rounds of the last minutes: one row a fragment, one bar a round, from the
// first Ready to the commit. Arrow keys, the pointer or the scrubber choose a
// round, and the line below says who was waited for and why.

import { $, el, svg, setText, setAttribute, asTable } from "./dom.js";
import { duration, count, clock } from "./figures.js";

// A round's life in steps; each begins where the one before ends.
const steps = [
  { from: "ready", to: "opened", name: "ready", say: "waiting until enough workers are ready", css: "step-ready" },
  { from: "opened", to: "summed", name: "send and sum", say: "members send, owners sum", css: "step-sum" },
  { from: "summed", to: "held", name: "pull", say: "holders pull the result", css: "step-pull" },
  { from: "held", to: "closed", name: "commit", say: "the commit is written", css: "step-commit" },
];
const rowHeight = 34;
const barHeight = 20;
const left = 84;
const bottom = 22;
const spans = [30, 60, 120, 300, 600]; // seconds shown

export class Rounds {
  constructor() {
    this.rounds = [];
    this.now = 0;
    this.chosen = null; // key of a round; null follows the newest
    this.place = $("rounds-plot");
    this.scrub = $("scrub");
    this.newest = $("scrub-newest");
    this.place.append((this.svg = svg("svg", { tabindex: 0, role: "img", "aria-label": "Rounds against time, one row a fragment. Arrow keys choose a round." })));
    for (const s of steps) $("rounds-legend").append(el("span", { class: "key" }, el("span", { class: "swatch " + s.css, "aria-hidden": "true" }), s.name), " ");
    $("rounds-legend").append(el("span", { class: "key" }, el("span", { class: "swatch step-failed", "aria-hidden": "true" }), "✕ failed attempt"));
    this.scrub.addEventListener("input", () => this.choose(Number(this.scrub.value)));
    this.newest.addEventListener("click", () => this.follow());
    this.svg.addEventListener("keydown", (e) => this.key(e));
    this.svg.addEventListener("pointermove", (e) => this.point(e));
    this.svg.addEventListener("pointerdown", (e) => this.point(e));
    this.svg.addEventListener("focus", () => setAttribute($("round-detail"), "aria-live", "polite"));
    this.svg.addEventListener("blur", () => setAttribute($("round-detail"), "aria-live", null));
    new ResizeObserver(() => this.draw()).observe(this.place);
    const between = (a, b) => (r) => (r[a] === null || r[b] === null ? "–" : duration(Math.max(r[b] - r[a], 0)));
    asTable($("rounds-as-table"), $("rounds-table"), () => ({
      caption: "Rounds, newest last, as of " + clock(new Date()),
      columns: [
        { head: "round", cell: (r) => title(r) },
        { head: "attempt", cell: (r) => r.attempt },
        { head: "members", number: true, cell: (r) => count(r.members) },
        ...steps.map((s) => ({ head: s.name, number: true, cell: between(s.from, s.to) })),
        { head: "outcome", wide: true, cell: (r) => outcome(r) },
      ],
      rows: this.rounds,
    }));
  }

  /** coordinates tells whether this peer decides rounds; others hear of commits only. */
  show(rounds, now, coordinates) {
    this.coordinates = coordinates;
    this.rounds = (rounds ?? []).filter((r) => begin(r) !== null).sort((a, b) => begin(a) - begin(b));
    this.now = now;
    if (this.chosen !== null && this.index() < 0) this.chosen = null;
    this.draw();
  }

  index() {
    return this.chosen === null ? this.rounds.length - 1 : this.rounds.findIndex((r) => key(r) === this.chosen);
  }

  choose(i) {
    if (this.rounds.length === 0) return;
    i = Math.min(Math.max(i, 0), this.rounds.length - 1);
    this.chosen = key(this.rounds[i]);
    this.draw();
  }

  follow() {
    this.chosen = null;
    this.draw();
  }

  key(e) {
    const i = this.index();
    const beside = (by) => {
      const now = this.rounds[i];
      const rows = this.fragments();
      const next = rows[rows.indexOf(now?.fragment) + by];
      const near = this.rounds.map((r, n) => [n, Math.abs(begin(r) - begin(now)), r]).filter(([, , r]) => r.fragment === next);
      return near.length ? near.reduce((a, b) => (b[1] < a[1] ? b : a))[0] : i;
    };
    const go = { ArrowLeft: () => i - 1, ArrowRight: () => i + 1, ArrowUp: () => beside(-1), ArrowDown: () => beside(1), Home: () => 0, End: () => this.rounds.length - 1 }[e.key];
    if (e.key === "Escape") this.follow();
    if (!go || i < 0) return;
    e.preventDefault();
    this.choose(go());
  }

  point(e) {
    const box = this.svg.getBoundingClientRect();
    const fragment = this.fragments()[Math.floor((e.clientY - box.top) / rowHeight)];
    const t = this.start + (e.clientX - box.left - left) / this.scale;
    const slack = 4 / this.scale;
    const hits = this.rounds.map((r, n) => [n, r]).filter(([, r]) => r.fragment === fragment && begin(r) - slack <= t && end(r, this.now) + slack >= t);
    if (hits.length) this.choose(hits.at(-1)[0]);
  }

  fragments() {
    return [...new Set(this.rounds.map((r) => r.fragment))].sort((a, b) => a - b);
  }

  /** Chooses how much time is shown: about a dozen rounds a fragment, fewer on a narrow page. */
  span(width) {
    const rows = Math.max(this.fragments().length, 1);
    const enough = Math.min(Math.max(Math.floor(width / 60), 5), 12);
    return spans.find((s) => this.rounds.filter((r) => end(r, this.now) > this.now - s).length >= enough * rows) ?? spans.find((s) => s >= this.now - begin(this.rounds[0])) ?? spans.at(-1);
  }

  draw() {
    const width = this.place.clientWidth;
    if (width === 0) return;
    const rows = this.fragments();
    const i = this.index();
    this.scrub.parentElement.hidden = i < 0;
    if (i < 0) {
      this.svg.replaceChildren();
      setAttribute(this.svg, "height", 0);
      say([this.coordinates ? "No round yet: the first one begins when a worker has trained its first H steps." : "The coordinator decides rounds, and its page shows them. This worker takes part in them while it trains; their commits are in the ledger below."]);
      return;
    }
    const chosen = this.rounds[i];
    const span = this.span(width);
    let stop = this.now;
    if (this.chosen !== null && begin(chosen) < this.now - span) stop = Math.min(begin(chosen) + span * 0.75, this.now);
    this.start = stop - span;
    this.scale = (width - left - 4) / span;
    const h = rows.length * rowHeight;
    setAttribute(this.svg, "width", width);
    setAttribute(this.svg, "height", h + bottom);
    const parts = this.axis(stop, h, width);
    rows.forEach((f, n) => parts.push(
      svg("text", { x: 0, y: n * rowHeight + rowHeight / 2 + 4, class: "row-name" }, "fragment " + f),
      svg("line", { x1: left, x2: width - 4, y1: n * rowHeight + rowHeight / 2, y2: n * rowHeight + rowHeight / 2, class: "ground" }),
    ));
    for (const r of this.rounds) {
      if (end(r, this.now) > this.start && begin(r) < stop) parts.push(...this.bar(r, rows.indexOf(r.fragment) * rowHeight + (rowHeight - barHeight) / 2, r === chosen));
    }
    this.svg.replaceChildren(...parts);
    setText("rounds-span", ago(span) + " shown");
    setAttribute(this.scrub, "max", this.rounds.length - 1);
    this.scrub.value = i;
    setAttribute(this.scrub, "aria-valuetext", title(chosen));
    setAttribute(this.newest, "aria-pressed", String(this.chosen === null));
    this.detail(chosen);
  }

  x(t) {
    return Math.max(left, left + (t - this.start) * this.scale);
  }

  bar(r, y, chosen) {
    const parts = [];
    for (const s of steps) {
      if (r[s.from] === null) continue;
      const to = r[s.to] ?? (r.closed === null ? this.now : r.closed);
      const x = this.x(r[s.from]);
      const w = Math.max(this.x(to) - x, 1.5);
      parts.push(svg("rect", { x, y, width: w, height: barHeight, class: s.css + (r.closed === null && r[s.to] === null ? " open" : "") }));
      if (r[s.to] === null) break;
    }
    const x = this.x(begin(r));
    const w = Math.max(this.x(end(r, this.now)) - x, 3);
    if (r.failed) parts.push(svg("rect", { x, y, width: w, height: barHeight, class: "failed" }), svg("text", { x: x + w / 2, y: y + barHeight / 2 + 4, class: "cross" }, "✕"));
    if (chosen) parts.push(svg("rect", { x: x - 2, y: y - 3, width: w + 4, height: barHeight + 6, class: "chosen" }));
    return parts;
  }

  axis(stop, h, width) {
    const parts = [];
    const every = [5, 10, 15, 30, 60, 120].find((s) => s * this.scale > 80) ?? 300;
    for (let back = 0; back <= this.now - this.start; back += every) {
      const t = this.now - back;
      if (t > stop || t < this.start) continue;
      const x = this.x(t);
      parts.push(svg("line", { x1: x, x2: x, y1: 0, y2: h, class: "tick" }));
      const anchor = x > width - 40 ? "end" : x < left + 30 ? "start" : "middle";
      parts.push(svg("text", { x, y: h + 16, class: "tick-name", "text-anchor": anchor }, back === 0 ? "now" : "−" + ago(back)));
    }
    return parts;
  }

  detail(r) {
    const lines = [title(r) + ", attempt " + r.attempt + ", " + count(r.members) + (r.members === 1 ? " member: " : " members: ") + outcome(r)];
    const parts = steps.filter((s) => r[s.from] !== null && r[s.to] !== null).map((s) => s.name + " " + duration(Math.max(r[s.to] - r[s.from], 0)));
    lines.push(parts.join(" · "));
    const waiting = r.waiting ?? [];
    lines.push(waiting.length ? "waited for " + waiting.join("; ") : "");
    say(lines);
  }
}

/** Writes the lines below the chart. */
function say(lines) {
  const place = $("round-detail");
  while (place.children.length < 3) place.append(el("p"));
  for (let i = 0; i < 3; i++) setText(place.children[i], lines[i] ?? "");
}

/** A span of time on an axis: whole units only. */
function ago(seconds) {
  return seconds < 60 ? seconds + " s" : duration(seconds).replace(/ 0 [sm]$/, "");
}

function key(r) {
  return r.fragment + "/" + r.base + "/" + r.attempt + "/" + (r.failed ? "failed" : "");
}

function begin(r) {
  return r.ready ?? r.opened ?? r.summed ?? r.held ?? r.closed;
}

function end(r, now) {
  return r.closed ?? now;
}

function title(r) {
  return "fragment " + r.fragment + " version " + count(r.base) + " → " + count(r.base + 1);
}

function outcome(r) {
  if (r.failed) return "failed: " + r.failed;
  if (r.closed === null) return r.phase;
  return "committed in " + duration(Math.max(r.closed - begin(r), 0));
}
