// The page: takes snapshots as they come and says what they say.

import { $, el, setText, setState, setAttribute, Table } from "./dom.js";
import { figure, bytes, bitRate, count, duration, percent, loss, known, shortHash, clock, unknown } from "./figures.js";
import { LossChart, RateChart } from "./charts.js";
import { Rounds } from "./rounds.js";
import { Ledger } from "./ledger.js";
import { Machine } from "./machine.js";
import { samples, thanks } from "./people.js";
import { stages } from "./stages.js";
import { Stream } from "./stream.js";

const staleAfter = 30; // seconds without a new snapshot: a thousand pages get one each twenty seconds
const oldAfter = 8; // seconds of age that the program itself tells of

const charts = [new LossChart(), new RateChart()];
const rounds = new Rounds();
const idle = { waiting: "waits for its first worker", ended: "the run has ended", paused: "nobody trains while the run is paused" }; // why no time left is told
let newest = null; // the newest snapshot
let arrived = 0; // when it was made, by this page's clock, ms
let bare = false; // the program says that it has no figures yet
let old = false; // the program says that it has nothing newer, and should
let link = { kind: "connecting" };

// ---- the four questions

function learning(s) {
  const l = s.learning;
  setText("train", known(l.train, loss));
  setText("trend", trend(l.curve ?? []));
  setText("held-out", "held-out " + known(l.held_out, loss) + (l.bigram === null || l.bigram === undefined ? "" : " · bigram " + loss(l.bigram)));
  const share = s.run.token_budget ? s.run.tokens / s.run.token_budget : 0;
  setText("progress-text", s.run.token_budget ? percent(share) + " of " + figure(s.run.token_budget) + " tokens" : figure(s.run.tokens) + " tokens");
  $("progress").value = Math.min(share, 1);
}

/** How the training loss moves, from a line through the newest quarter of the curve. */
function trend(curve) {
  const points = curve.slice(-Math.max(8, Math.ceil(curve.length / 4)));
  const span = points.length ? points.at(-1).at - points[0].at : 0;
  if (points.length < 4 || span <= 0) return "";
  const mean = (f) => points.reduce((sum, p) => sum + f(p), 0) / points.length;
  const t = mean((p) => p.at);
  const slope = mean((p) => (p.at - t) * p.loss) / mean((p) => (p.at - t) ** 2);
  const [per, name] = span > 1800 ? [3600, "h"] : [60, "min"];
  const change = slope * per;
  if (!Number.isFinite(change)) return "";
  return (change < -0.0005 ? "▼ " : change > 0.0005 ? "▲ " : "") + Math.abs(change).toFixed(3) + "/" + name;
}

function speed(s) {
  const all = s.speed.tokens_per_second;
  setText("rate", known(all, figure));
  const own = s.speed.own;
  setText("own", own === null || own === undefined ? "this peer does not train" : "you " + figure(own) + (all > 0 ? " (" + percent(own / all) + ")" : ""));
  const left = s.speed.seconds_left;
  setText("left", left === null || left === undefined ? (idle[s.run.phase] ?? unknown + " time left") : "≈ " + duration(left) + " left");
}

/** What the GPUs that train here tell of themselves; nothing where there is no telemetry. */
function cards(s) {
  const all = s.cards ?? [];
  $("cards").hidden = all.length === 0;
  setText("cards", all.map(cardText).join("; "));
}

function cardText(c) {
  const parts = [percent(c.utilisation), bytes(c.used_bytes) + " of " + bytes(c.total_bytes)];
  if (c.temperature > 0) parts.push(c.temperature.toFixed(0) + " °C");
  if (c.power > 0) parts.push(c.power.toFixed(0) + (c.power_limit > 0 ? " of " + c.power_limit.toFixed(0) : "") + " W");
  if (c.throttled?.length > 0) parts.push("held down by " + c.throttled.join(", "));
  return c.name + ": " + parts.join(" · ");
}

function health(s) {
  const h = s.health;
  setText("training", count(h.training));
  setText("training-unit", s.role === "worker" ? "in the run" : "training");
  setText("syncing", h.syncing > 0 ? "· " + count(h.syncing) + " syncing" : "");
  if (h.lost > 0) setState("lost", "busy", count(h.lost) + " lost in 10 m: " + (h.last_lost || "no reason known"));
  else setState("lost", "none", "none lost in 10 m");
  if (h.diverged > 0 || h.states_agree === false) setState("agree", "bad", "states differ" + (h.diverged > 0 ? ", " + count(h.diverged) + " found" : ""));
  else if (h.states_agree) setState("agree", "good", "states agree");
  else setState("agree", "none", "states not compared yet");
  setText("failed", count(h.commits) + (h.commits === 1 ? " commit" : " commits") + (h.contributed > 0 ? ", the newest by " + count(h.contributed) + (h.contributed === 1 ? " worker" : " workers") : "") + " · " + count(h.failed_attempts) + " failed" + (h.failed_attempts > 0 && h.last_failure ? ": " + h.last_failure : ""));
}

function cost(s) {
  const c = s.cost;
  setText("bits", known(c.bits_per_parameter, figure));
  setText("bits-more", c.bits_per_parameter === null ? "known after the first merged rounds" : "with results and control " + known(c.upload_bits_per_parameter, figure));
  setText("bytes-day", known(c.bytes_per_peer_day, bytes) + " a day and peer");
  setText("ratio", ratio(c.bytes_ratio_fp32_data_parallel));
}

/** Compares with what fp32 data-parallel training would have sent. */
function ratio(times) {
  if (times === null || times === undefined) return unknown + " compared with data-parallel";
  return times >= 1 ? figure(times) + "× below data-parallel" : figure(1 / times) + "× above data-parallel";
}

// ---- peers, ledger, decisions

const stateKinds = { training: "good", dialling: "busy", syncing: "busy", warming: "busy", draining: "busy", sleeping: "none", banned: "bad", gone: "bad" };
const signs = { good: "● ", busy: "◐ ", bad: "✕ ", none: "○ " };

function peerName(p) {
  return (p.name || "slot " + p.slot) + (p.you ? " (you)" : "");
}

function peerState(p) {
  const state = p.alive ? p.state || "in the run" : "gone";
  const kind = stateKinds[state] ?? "none";
  const why = p.reason && state !== "training" ? ": " + p.reason : "";
  return { text: signs[kind] + state + why, kind: "state " + kind, title: p.reason };
}

/** A worker's state hash; one that differs from the others of its stage at its height is marked. */
function peerHash(p) {
  const text = shortHash(p.state_hash);
  if (text === unknown) return { text, title: "not told yet" };
  const others = (newest.peers ?? []).filter((o) => o.alive && o.stage === p.stage && o.height === p.height && shortHash(o.state_hash) !== unknown);
  const same = others.filter((o) => o.state_hash === p.state_hash).length;
  const odd = p.alive && same * 2 < others.length;
  return { text: odd ? "✕ " + text + " differs" : text, title: p.state_hash, kind: odd ? "state bad" : "" };
}

const flows = new Map(); // by slot: what a worker had sent and received by its clock, and at what rates

/** Takes in how much each worker has sent and received, and forgets those who left. */
function measure(all) {
  const slots = new Set();
  for (const p of all) {
    slots.add(p.slot);
    const before = flows.get(p.slot);
    const now = { clock: p.clock, bytes: [p.bytes_sent, p.bytes_received], rates: [null, null] };
    if (before?.clock === now.clock) continue; // it has said nothing since
    const seconds = before ? (now.clock - before.clock) / 1000 : 0;
    if (seconds > 0) now.rates = now.bytes.map((b, i) => (Math.max(b - before.bytes[i], 0) * 8) / seconds);
    flows.set(p.slot, now);
  }
  for (const slot of flows.keys()) if (!slots.has(slot)) flows.delete(slot);
}

/** A worker's rate up (0) or down (1), since the word before its last one. */
function traffic(p, way) {
  const rate = p.alive ? flows.get(p.slot)?.rates[way] : null;
  return { text: known(rate, bitRate), title: bytes(way === 0 ? p.bytes_sent : p.bytes_received) + (way === 0 ? " sent" : " received") + " in its slot" };
}

/** The time there and back to a peer. */
function away(latency) {
  return latency ? (latency < 0.001 ? "<1 ms" : duration(latency)) : "";
}

/** A figure that peers tell the coordinator; a worker does not hear of others'. */
function told(p, text) {
  return p.state || p.you ? text : unknown;
}

const peersTable = new Table($("peers-table"), [
  { head: "peer", cell: (p) => ({ text: peerName(p), title: p.id }), sort: peerName },
  { head: "state", wide: true, cell: peerState, sort: (p) => (p.alive ? p.state : "gone") },
  { head: "stage", number: true, cell: (p) => count(p.stage + 1), sort: (p) => p.stage, shown: () => newest.stages?.length > 0 },
  { head: "tokens/s", number: true, cell: (p) => (p.alive && p.step > 0 ? figure(p.tokens_per_second) : unknown), sort: (p) => p.tokens_per_second },
  { head: "tokens", number: true, cell: (p) => told(p, figure(p.tokens)), sort: (p) => p.tokens },
  { head: "in steps", number: true, title: "share of time inside inner steps", cell: (p) => (p.step > 0 ? percent(p.utilisation) : unknown), sort: (p) => p.utilisation },
  { head: "loss", number: true, cell: (p) => (p.loss > 0 ? loss(p.loss) : unknown), sort: (p) => p.loss },
  { head: "up now", number: true, cell: (p) => traffic(p, 0), sort: (p) => flows.get(p.slot)?.rates[0] ?? -1 },
  { head: "down now", number: true, cell: (p) => traffic(p, 1), sort: (p) => flows.get(p.slot)?.rates[1] ?? -1 },
  { head: "way", title: "from this machine to it, there and back", cell: (p) => (p.you ? "–" : [p.way, away(p.latency)].filter(Boolean).join(", ") || unknown), sort: (p) => p.latency ?? Infinity },
  { head: "device", cell: (p) => p.device || unknown, sort: (p) => p.device ?? "" },
  { head: "step", number: true, cell: (p) => told(p, count(p.step)), sort: (p) => p.step },
  { head: "height", number: true, cell: (p) => (p.height > 0 ? count(p.height) : unknown), sort: (p) => p.height },
  { head: "state hash", cell: peerHash },
  { head: "heard", number: true, cell: (p) => told(p, duration(p.seen_seconds) + " ago"), sort: (p) => p.seen_seconds },
], { key: (p) => p.slot, sortable: true, rowClass: (p) => (p.you ? "you" : p.alive ? null : "gone") });

function peers(s) {
  measure(s.peers ?? []);
  const all = [...(s.peers ?? [])].sort((a, b) => b.you - a.you || b.alive - a.alive || a.slot - b.slot);
  const words = $("filter").value.trim().toLowerCase();
  const shown = all.filter((p) => !words || [peerName(p), p.id, p.alive ? p.state : "gone", p.device, p.reason].join(" ").toLowerCase().includes(words));
  peersTable.show(shown);
  const alive = all.filter((p) => p.alive).length;
  setText("peers-count", count(alive) + " alive" + (all.length > alive ? " · " + count(all.length - alive) + " gone" : "") + (shown.length < all.length ? " · " + count(shown.length) + " shown" : ""));
  $("peers-table").hidden = all.length === 0;
  $("peers-empty").hidden = all.length > 0;
  if (all.length === 0) setText("peers-empty", "No worker yet. On another machine: dunlin join " + (s.invite || "INVITE"));
}

const notesTable = new Table($("notes-table"), [
  { head: "time", cell: (n) => ({ text: clock(new Date(n.at)), title: n.at }) },
  { head: "decision and reason", wide: true, cell: (n) => n.text },
], { key: (n) => n.key, empty: "No decision yet." });

/** Gives equal notes of one moment keys of their own. */
function withKeys(notes) {
  const seen = new Map();
  return notes.map((n) => {
    const base = n.at + " " + n.text;
    const times = (seen.get(base) ?? 0) + 1;
    seen.set(base, times);
    return { ...n, key: base + " " + times };
  });
}

// ---- this run

const aboutRows = new Map();

function about(s) {
  const r = s.run;
  const rows = [
    ["run", r.name || unknown],
    ["run id", shortHash(r.id) === unknown ? "– (it opens a private run, and others may see this page)" : r.id],
    ["model", r.model + ", " + figure(r.parameters) + " parameters"],
    ["fragments", count(r.fragments) + ", versions " + ((r.versions ?? []).map(count).join(", ") || unknown)],
    ["H", count(r.h) + " inner steps between two rounds of a fragment"],
    ["inner step", count(r.step_tokens) + " tokens"],
    ["codec", r.codec || unknown],
    ["tokens", count(r.tokens) + (r.token_budget ? " of " + count(r.token_budget) : "")],
    ["height, term", count(r.height) + ", " + count(r.term)],
    ["state", shortHash(r.state_hash) === unknown ? unknown : r.state_hash],
    ["this peer", s.role + " " + s.self],
  ];
  if (r.coordinators) {
    rows.push(["coordinators", r.coordinators.map((k) => k.id.slice(0, 8) + (k.leads ? " leads" : k.connected ? "" : " away") + (k.you ? " (this one)" : "")).join(", ")]);
  }
  for (const [name, text] of rows) {
    if (!aboutRows.has(name)) {
      const dd = el("dd");
      aboutRows.set(name, dd);
      $("about-list").append(el("dt", {}, name), dd);
    }
    setText(aboutRows.get(name), text);
  }
  $("invite-line").hidden = !s.invite;
  setText("invite", s.invite ? "dunlin join " + s.invite : "");
}

// ---- all of it

function show(s) {
  newest = s;
  const name = s.run.name || "run " + shortHash(s.run.id);
  setText("run-name", name);
  const elapsed = (new Date(s.at) - new Date(s.run.started)) / 1000;
  const phase = s.run.phase + (s.run.reason ? ": " + s.run.reason : "");
  setText("headline", [phase, "height " + count(s.run.height), duration(elapsed)].join(" · "));
  setAttribute($("headline"), "title", "since " + new Date(s.run.started).toLocaleString());
  const you = (s.peers ?? []).find((p) => p.you);
  setText("you", "you: " + (you ? peerName({ ...you, you: false }) : s.role));
  document.title = known(s.learning.train, loss) + " · " + name + " · dunlin";
  learning(s);
  speed(s);
  cards(s);
  health(s);
  cost(s);
  charts[0].show(s.learning, s.health.commits);
  charts[1].show(s.speed, s.role === "worker", you?.class);
  rounds.show(s.rounds, elapsed, s.role === "coordinator");
  peers(s);
  ledger.show(s.ledger);
  stages(s, peerName, peerState);
  samples(s.samples);
  thanks(s.thanks);
  machine.show(s.machine);
  notesTable.show(withKeys(s.notes ?? []));
  about(s);
  setText("foot", "dunlin " + s.version + " · figures of " + clock(new Date(s.at)) + " · JSON at /api/v1/snapshot");
  freshness();
}

/** Says what the connection does and whether the figures are old. */
function freshness() {
  const age = newest ? (Date.now() - arrived) / 1000 : null;
  const stale = newest !== null && (link.kind !== "live" ? age > 2 : old || age > staleAfter);
  document.body.classList.toggle("stale", stale);
  const since = stale ? " Figures are stale since " + clock(new Date(arrived)) + "." : "";
  let text = "";
  let timer = "";
  if (link.kind === "refused") text = "Not allowed: " + link.text + ".";
  else if (link.kind === "waiting") {
    text = "Not connected: " + link.text + "." + since;
    timer = "Next try in " + link.seconds + " s.";
  } else if (link.kind === "connecting" && (stale || !newest)) text = "Connecting …" + since;
  else if (stale) text = "The program sends nothing new." + since;
  else if (link.kind === "live" && !newest) text = bare ? "Connected. The program is starting and has no figures yet." : "Connected. Its figures are on their way.";
  setText("link-text", text);
  setText("link-timer", timer);
  $("link-now").hidden = link.kind !== "waiting";
  setAttribute($("link"), "class", text ? (link.kind === "refused" ? "shown bad" : "shown") : null);
}

const stream = new Stream({
  snapshot(s) {
    arrived = Date.now();
    old = false;
    show(s);
  },
  age(seconds) {
    old = seconds > oldAfter;
    bare = seconds === null;
    if (seconds !== null && newest) arrived = Math.min(arrived, Date.now() - seconds * 1000);
    freshness();
  },
  state(state) {
    link = state;
    freshness();
  },
});
setInterval(freshness, 1000);
const ledger = new Ledger(() => stream.headers());
const machine = new Machine(() => stream.headers());

$("link-now").addEventListener("click", () => stream.connect());
$("filter").addEventListener("input", () => newest && peers(newest));
$("invite-show").addEventListener("click", () => {
  const hidden = !$("invite").hidden;
  $("invite").hidden = hidden;
  $("invite-picture").hidden = hidden;
  // Asked for anew each time: invites are revoked.
  if (!hidden) $("invite-code").src = "/api/v1/invite.svg?" + new URLSearchParams({ ...(stream.token && { token: stream.token }), at: Date.now() });
  setText("invite-show", hidden ? "show invite" : "hide invite");
  $("invite-show").setAttribute("aria-expanded", String(!hidden));
});

// On a phone the parts below wait behind their headings.
const narrow = matchMedia("(max-width: 700px)").matches;
for (const part of document.querySelectorAll("details.part")) part.open = !narrow;
$("rounds").addEventListener("toggle", () => rounds.draw());

// ---- light and dark

function lookChanged() {
  setText("theme", "look: " + look.name);
  for (const c of charts) c.restyle();
}

$("theme").addEventListener("click", () => look.next());
new MutationObserver(lookChanged).observe(document.documentElement, { attributeFilter: ["data-theme"] });
lookChanged();
