// A model that is spread over peers: a column for each stage with a chip for each
// peer that serves it and a bar as high as calls wait there; above them arcs of
// the newest moves between stages, below all that are known, with their reasons.

import { $, el, svg, setText, setAttribute, asTable } from "./dom.js";
import { clock, count, duration, figure, known, shortHash } from "./figures.js";

const highest = 48; // pixels of the longest wait
const least = 0.05; // seconds that such a bar stands for at least
const columns = []; // by stage: {place, wait, bar, about, chips, bySlot}
let all = []; // the newest stages
const arcs = 6; // newest moves that are drawn
let moves = []; // newest first
let listed = null; // key of the moves listed

asTable($("stages-as-table"), $("stages-table"), () => ({
  caption: "Stages, as of " + clock(new Date()),
  columns: [
    { head: "stage", cell: (s) => count(s.stage + 1) },
    { head: "parameters", number: true, cell: (s) => figure(s.parameters) },
    { head: "peers", number: true, cell: (s) => count(s.peers) },
    { head: "training", number: true, cell: (s) => count(s.training) },
    { head: "calls wait", number: true, title: "in the queues of its peers, mean", cell: (s) => known(s.queue_wait, duration) },
    { head: "state", title: "of its fragments, once the run has ended", cell: (s) => (/^0*$/.test(s.state_hash) ? "–" : { text: shortHash(s.state_hash), title: s.state_hash }) },
  ],
  rows: all,
}));

function column(n) {
  while (columns.length <= n) {
    const c = { wait: el("p", { class: "wait" }), bar: el("div", { class: "queue", "aria-hidden": "true" }), about: el("p", { class: "aside" }), chips: el("ul", { class: "chips" }), bySlot: new Map() };
    const name = "stage " + count(columns.length + 1);
    c.place = el("section", { "aria-label": name }, el("div", { class: "well" }, c.bar), el("h3", {}, name), c.about, c.wait, c.chips);
    columns.push(c);
    $("stages-columns").append(c.place);
  }
  return columns[n];
}

/** name and state say of a peer what the table of peers says. */
export function stages(s, name, state) {
  all = s.stages ?? [];
  $("stages").hidden = all.length === 0;
  if (all.length === 0) return;
  const longest = Math.max(least, ...all.map((stage) => stage.queue_wait ?? 0));
  for (const stage of all) {
    const c = column(stage.stage);
    c.bar.style.height = Math.round((highest * (stage.queue_wait ?? 0)) / longest) + "px";
    setText(c.about, figure(stage.parameters) + " parameters · " + count(stage.training) + " of " + count(stage.peers) + (stage.peers === 1 ? " peer trains" : " peers train"));
    setText(c.wait, "calls wait " + known(stage.queue_wait, duration));
    show(c, (s.peers ?? []).filter((p) => p.alive && p.stage === stage.stage), name, state);
  }
  const micros = s.health.micro_batches ?? 0;
  setText("stages-count", count(all.length) + (micros > 0 ? " · " + figure(micros) + " micro-batches, " + count(s.health.partly_counted ?? 0) + " counted in some stages only" : ""));
  moves = s.stage_moves ?? [];
  const key = moves.map((m) => m.at).join(" ");
  if (key === listed) return;
  listed = key;
  $("stage-moves").replaceChildren(...moves.map((m) => el("li", {}, clock(new Date(m.at)) + " ", m.text)));
  $("stage-moves").hidden = moves.length === 0;
  draw();
}

/** Draws the newest moves as arcs from stage to stage, the newest darkest; where columns stand below each other there is no room. */
function draw() {
  const boxes = columns.map((c) => c.place);
  const inRow = boxes.every((b) => b.offsetTop === boxes[0].offsetTop);
  setAttribute($("stage-arcs"), "class", inRow && moves.length > 0 ? "shown" : null);
  if (!inRow) return;
  const middle = (b) => b.offsetLeft - boxes[0].offsetLeft + b.offsetWidth / 2;
  $("stage-arcs").replaceChildren(...moves.slice(0, arcs).filter((m) => boxes[m.from] && boxes[m.to]).reverse().map((m, n, all) => {
    const [x, to] = [middle(boxes[m.from]), middle(boxes[m.to])];
    const path = `M${x} 36C${x} 0 ${to} 0 ${to} 34m-4 -6l4 6l4 -6`;
    return svg("path", { d: path, opacity: (n + 1) / all.length }, svg("title", {}, m.text));
  }));
}

new ResizeObserver(draw).observe($("stages-columns"));

/** Keeps a chip for each peer of a stage. */
function show(c, peers, name, state) {
  const seen = new Set();
  for (const p of peers) {
    seen.add(p.slot);
    let chip = c.bySlot.get(p.slot);
    if (!chip) {
      chip = el("li");
      c.bySlot.set(p.slot, chip);
      c.chips.append(chip);
    }
    const { text, kind } = state(p);
    setAttribute(chip, "class", "chip " + kind + (p.you ? " you" : ""));
    setAttribute(chip, "title", text);
    setText(chip, text.slice(0, 2) + name(p));
  }
  for (const [slot, chip] of c.bySlot) {
    if (seen.has(slot)) continue;
    chip.remove();
    c.bySlot.delete(slot);
  }
}
