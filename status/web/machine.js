// This machine: what its owner lets dunlin take, and the switch to pause. Only
// the page on the machine itself may change anything; what holds comes back in
// the next snapshot.

import { $, el, setText, setState, setAttribute, Table } from "./dom.js";
import { figure, bytes, clock, known, count } from "./figures.js";

const states = { training: "good", paused: "busy", leaving: "busy" };

export class Machine {
  /** headers() are those of every request. */
  constructor(headers) {
    this.headers = headers;
    this.fields = new Map(); // by key: {input, hint, value}
    this.now = null;
    this.log = new Table($("machine-log"), [
      { head: "time", cell: (n) => ({ text: clock(new Date(n.at)), title: n.at }) },
      { head: "what", wide: true, cell: (n) => n.text },
    ], { empty: "Nothing yet." });
    $("pause").addEventListener("click", () => this.change({ pause: !this.now.paused }, $("machine-said")));
    $("limits").addEventListener("submit", (e) => {
      e.preventDefault();
      this.apply();
    });
    $("limits-back").addEventListener("click", () => {
      for (const f of this.fields.values()) this.put(f, f.value);
      this.dirty();
    });
  }

  show(machine) {
    this.now = machine ?? null;
    $("machine").hidden = !machine;
    if (!machine) return;
    const until = machine.until ? ", goes on at " + clock(new Date(machine.until)) : "";
    setState("machine-state", states[machine.state] ?? "none", machine.state + (machine.reason ? ": " + machine.reason : "") + until);
    setText("pause", machine.paused ? "resume" : "pause");
    setText("machine-does", machine.device + " · about " + known(machine.estimated_tokens_per_second, figure) + " tokens/s · other programs use " +
      machine.others_cores.toFixed(1) + " of " + count(machine.cores) + " cores" + (machine.battery ? " · on battery" : "") + " · sent " + bytes(machine.sent_today_bytes) + " and received " + bytes(machine.received_today_bytes) + " today");
    const e = machine.expects, up = bytes(e?.sent_per_day_bytes ?? 0), down = bytes(e?.received_per_day_bytes ?? 0);
    setText("machine-expects", e ? "sends up to " + up + " and receives " + (up === down ? "as much" : down) + " in a day of training" : "");
    setText("machine-untold", machine.untold ? "This system does not tell everything that limits go by: " + machine.untold : "");
    this.log.show(machine.log ?? []);
    for (const limit of machine.limits) this.limit(limit);
    this.dirty();
  }

  limit(limit) {
    let field = this.fields.get(limit.key);
    if (!field) {
      const id = "limit-" + limit.key;
      const input = limit.kind === "bool"
        ? el("input", { id, type: "checkbox" })
        : el("input", { id, type: "text", autocomplete: "off", spellcheck: "false", "aria-describedby": id + "-hint", placeholder: "no limit" });
      const hint = el("span", { class: "aside", id: id + "-hint" }, limit.usage + (limit.kind === "bool" ? "" : " (" + limit.allowed + ")"));
      field = { input, hint, value: null };
      this.fields.set(limit.key, field);
      input.addEventListener("input", () => this.dirty());
      $("limit-rows").append(el("div", { class: "limit" }, el("label", { for: id }, limit.key), input, hint));
    }
    // What is being typed stays; a field that nobody touched follows.
    const touched = field.value !== null && this.get(field) !== field.value;
    if (!touched) this.put(field, limit.value);
    field.value = limit.value;
  }

  get(field) {
    return field.input.type === "checkbox" ? String(field.input.checked) : field.input.value;
  }

  put(field, value) {
    if (field.input.type === "checkbox") field.input.checked = value === "true";
    else if (field.input.value !== value) field.input.value = value;
  }

  changes() {
    const out = {};
    for (const [key, f] of this.fields) if (this.get(f).trim() !== f.value) out[key] = this.get(f).trim();
    return out;
  }

  dirty() {
    const any = Object.keys(this.changes()).length > 0;
    for (const f of this.fields.values()) setAttribute(f.input.closest(".limit"), "class", this.get(f).trim() !== f.value ? "limit changed" : "limit");
    $("limits-apply").disabled = $("limits-back").disabled = !any;
  }

  async apply() {
    const limits = this.changes();
    if (Object.keys(limits).length > 0) await this.change({ limits }, $("limits-said"));
  }

  /** Asks for a change and says how it went. */
  async change(change, said) {
    setText(said, "asking …");
    setAttribute(said, "class", null);
    try {
      const token = await this.ask("/api/v1/machine/token", {});
      await this.ask("/api/v1/machine", {
        method: "POST", body: JSON.stringify(change), headers: { "Content-Type": "application/json", "X-Dunlin-Control": token.token },
      });
      setText(said, "done at " + clock(new Date()));
    } catch (e) {
      setText(said, "✕ " + (e.name === "TypeError" ? "the program does not answer" : e.message));
      setAttribute(said, "class", "state bad");
    }
  }

  async ask(address, options) {
    const answer = await fetch(address, { cache: "no-store", ...options, headers: { ...this.headers(), ...options.headers } });
    if (answer.status === 204) return null;
    const said = await answer.json().catch(() => ({}));
    if (!answer.ok) throw new Error(said.error ?? "the program answers " + answer.status);
    return said;
  }
}
