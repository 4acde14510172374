// A model that is spread over peers: its stages, who serves them, and moves between them.

import { $, el, setText, Table } from "./dom.js";
import { clock, count, duration, figure, known, shortHash } from "./figures.js";

const table = new Table($("stages-table"), [
  { head: "stage", cell: (s) => count(s.stage + 1) },
  { head: "parameters", number: true, cell: (s) => figure(s.parameters) },
  { head: "peers", number: true, cell: (s) => count(s.peers) },
  { head: "training", number: true, cell: (s) => count(s.training) },
  { head: "calls wait", number: true, title: "in the queues of its peers, mean", cell: (s) => known(s.queue_wait, (w) => (w < 1 ? Math.round(w * 1000) + " ms" : duration(w))) },
  { head: "state", title: "of its fragments, once the run has ended", cell: (s) => (/^0*$/.test(s.state_hash) ? "–" : { text: shortHash(s.state_hash), title: s.state_hash }) },
], { key: (s) => s.stage });

let moved = ""; // key of the moves drawn

export function stages(list, moves, health) {
  list ??= [];
  moves ??= [];
  $("stages").hidden = list.length === 0;
  if (list.length === 0) return;
  table.show(list);
  const micros = health.micro_batches ?? 0;
  const partly = micros > 0 ? " · " + figure(micros) + " micro-batches, " + count(health.partly_counted ?? 0) + " counted in some stages only" : "";
  setText("stages-count", count(list.length) + partly);
  const key = moves.map((m) => m.at).join(" ");
  if (key === moved && moves.length > 0) return;
  moved = key;
  $("stage-moves").replaceChildren(...moves.map((m) => el("li", {}, clock(new Date(m.at)) + " ", m.text)));
  $("stage-moves").hidden = moves.length === 0;
}
