// The rounds of the last minutes: one row a fragment, one bar a round. The
// coordinator that leads shows those of all workers, from the first Ready to the
// commit; a worker its own, from the snapshot of its weights to the merge. Arrow
// keys, the pointer or the scrubber choose a round, and the lines below say who
// was waited for and why.

import { $, el, svg, setText, setAttribute, asTable } from "./dom.js";
import { duration, count, clock } from "./figures.js";

// A round's life in steps; each lasts until the next one that is known of, or
// until the round is over.
const ledSteps = [
  { from: "ready", name: "wait for others", css: "step-ready", title: "the first worker is ready with what it learned; the others are awaited" },
  { from: "opened", name: "send and sum", css: "step-sum", title: "workers send what they learned to those of them who sum it" },
  { from: "summed", name: "fetch the sum", css: "step-pull", title: "everybody fetches the sums" },
  { from: "held", name: "commit", css: "step-commit", title: "enough hold the same result: the ledger takes it" },
];
const ownSteps = [
  { from: "snapshot", name: "encode", css: "step-encode", title: "what this machine learned becomes few bytes" },
  ...ledSteps,
  { from: "closed", name: "merge", css: "step-merge", title: "the sum goes into this machine's weights" },
];
// What is under way, by the phase of a round that is not over.
const underWay = { collecting: "waiting for workers", opening: "opening", summing: "sending and summing", spreading: "the sums are fetched", committing: "the ledger is to take it" };
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
    this.scrub.addEventListener("input", () => this.choose(Number(this.scrub.value)));
    this.newest.addEventListener("click", () => this.follow());
    this.svg.addEventListener("keydown", (e) => this.key(e));
    this.svg.addEventListener("pointermove", (e) => this.point(e));
    this.svg.addEventListener("pointerdown", (e) => this.point(e));
    this.svg.addEventListener("focus", () => setAttribute($("round-detail"), "aria-live", "polite"));
    this.svg.addEventListener("blur", () => setAttribute($("round-detail"), "aria-live", null));
    new ResizeObserver(() => this.draw()).observe(this.place);
    const took = (s) => (r) => {
      const part = this.life(r).find((p) => p.step === s);
      return part && known(part.to) ? duration(Math.max(part.to - part.from, 0)) : "–";
    };
    asTable($("rounds-as-table"), $("rounds-table"), () => ({
      caption: "Rounds, newest last, as of " + clock(new Date()),
      columns: [
        { head: "round", cell: (r) => title(r) },
        { head: "attempt", cell: (r) => r.attempt || "–" },
        { head: "workers", number: true, cell: (r) => (r.members > 0 ? count(r.members) : "–") },
        ...this.steps.map((s) => ({ head: s.name, number: true, cell: took(s) })),
        { head: "outcome", wide: true, cell: (r) => outcome(r) },
      ],
      rows: this.rounds,
    }));
  }

  /** coordinates tells whether this peer decides rounds; a worker shows its own. */
  show(rounds, now, coordinates) {
    if (this.coordinates !== coordinates) this.sees(coordinates);
    this.rounds = (rounds ?? []).filter((r) => begin(r) !== null).sort((a, b) => begin(a) - begin(b));
    this.now = now;
    if (this.chosen !== null && this.index() < 0) this.chosen = null;
    this.draw();
  }

  sees(coordinates) {
    this.coordinates = coordinates;
    this.steps = coordinates ? ledSteps : ownSteps;
    setText("rounds-whose", coordinates ? "Rounds" : "Rounds of this worker");
    const key = (css, name, title) => [el("span", { class: "key", title }, el("span", { class: "swatch " + css, "aria-hidden": "true" }), name), " "];
    $("rounds-legend").replaceChildren(...this.steps.flatMap((s) => key(s.css, s.name, s.title)), ...key("step-failed", "✕ failed, tried again"), ...key("step-none", "no round under way"));
  }

  /** The parts of a round's life that are known of: {step, from, to}; to is null for what goes on. */
  life(r) {
    const begun = this.steps.filter((s) => known(r[s.from]));
    const parts = begun.map((s, i) => ({ step: s, from: r[s.from], to: i + 1 < begun.length ? r[begun[i + 1].from] : over(r) }));
    return parts.filter((p) => p.step.from !== "closed" || known(r.merged));
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
      if (this.coordinates === undefined) return; // whose rounds these are is not known yet
      say([this.coordinates ? "No round yet: the first one begins when a worker has trained its first H steps. Where there are several coordinators, the one that leads shows rounds." : "No round yet: the first one begins when this worker has trained its first H steps."]);
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
    for (const { step, from, to } of this.life(r)) {
      const x = this.x(from);
      const w = Math.max(this.x(to ?? this.now) - x, 1.5);
      parts.push(svg("rect", { x, y, width: w, height: barHeight, class: step.css + (known(to) ? "" : " open") }));
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
    const of = [title(r)];
    if (r.members > 0) of.push(count(r.members) + (r.members === 1 ? " worker" : " workers"));
    const lines = [of.join(", ") + ": " + outcome(r)];
    lines.push(this.life(r).filter((p) => known(p.to)).map((p) => p.step.name + " " + duration(Math.max(p.to - p.from, 0))).join(" · "));
    const waiting = r.waiting ?? [];
    lines.push(waiting.length ? (known(over(r)) ? "waited: " : "waits: ") + waiting.join("; ") : "");
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

/** A time that has come. */
function known(t) {
  return t !== null && t !== undefined;
}

function begin(r) {
  return [r.snapshot, r.ready, r.opened, r.summed, r.held, r.closed].find(known) ?? null;
}

/** When a round was over; null while it is not. */
function over(r) {
  return r.merged ?? r.closed ?? null;
}

function end(r, now) {
  return over(r) ?? now;
}

function title(r) {
  return "fragment " + r.fragment + ", version " + count(r.base) + " → " + count(r.base + 1);
}

function outcome(r) {
  if (r.failed) return "failed: " + r.failed;
  if (!known(r.closed)) return underWay[r.phase] ?? r.phase;
  const took = "committed in " + duration(Math.max(r.closed - begin(r), 0));
  if (!known(r.merged)) return took;
  return took + ", merged " + count(r.overlap_steps ?? 0) + (r.overlap_steps === 1 ? " inner step" : " inner steps") + " after its snapshot; " + r.phase;
}
