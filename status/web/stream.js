// The connection to the program: server-sent events over fetch, since a token
// must travel in a header. Reconnects with a countdown; a page that nobody
// looks at lets go of its stream.

const silence = 40; // seconds without a word; the server speaks every 5, every 20 to each of a thousand pages
const waits = [1, 2, 4, 8, 15];
const hiddenFor = 60; // seconds out of sight before the stream is let go

/** handlers: snapshot(object), age(seconds or null), state({kind, text, seconds}). */
export class Stream {
  constructor(handlers) {
    this.handlers = handlers;
    this.failures = 0;
    this.ended = false;
    this.token = takeToken();
    document.addEventListener("visibilitychange", () => this.sight());
    addEventListener("pagehide", () => this.stop());
    addEventListener("pageshow", (e) => e.persisted && this.connect());
    this.connect();
  }

  headers() {
    return this.token ? { Authorization: "Bearer " + this.token } : {};
  }

  async connect() {
    this.stop();
    this.abort = new AbortController();
    const { signal } = this.abort;
    this.handlers.state({ kind: "connecting" });
    try {
      this.listen();
      const answer = await fetch("/api/v1/events", { signal, headers: this.headers(), cache: "no-store" });
      if (!answer.ok) throw await refusal(answer);
      this.failures = 0;
      this.ended = false;
      this.handlers.state({ kind: "live" });
      await this.read(answer.body.pipeThrough(new TextDecoderStream()).getReader());
      throw new Error(this.ended ? "the program has ended" : "the connection ended");
    } catch (e) {
      if (signal.aborted && !this.silent) return;
      this.lost(this.silent ? new Error("the program says nothing") : e);
    }
  }

  async read(reader) {
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      this.listen();
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) this.event(block);
    }
  }

  event(block) {
    let name = "message";
    let data = "";
    for (const line of block.split("\n")) {
      if (line.startsWith("event: ")) name = line.slice(7);
      else if (line.startsWith("data: ")) data += line.slice(6);
    }
    if (name === "end") this.ended = true;
    else if (name === "alive") this.handlers.age(JSON.parse(data).age_seconds);
    else if (name === "snapshot") this.handlers.snapshot(JSON.parse(data));
  }

  /** Starts the watch over: a stream that is silent is dead. */
  listen() {
    clearTimeout(this.watch);
    this.silent = false;
    this.watch = setTimeout(() => {
      this.silent = true;
      this.abort.abort();
    }, silence * 1000);
  }

  lost(error) {
    clearTimeout(this.watch);
    if (error.needsToken) {
      this.handlers.state({ kind: "refused", text: error.message });
      return;
    }
    const wait = Math.max(waits[Math.min(this.failures++, waits.length - 1)], error.wait ?? 0);
    const until = Date.now() + wait * 1000;
    const text = error.name === "TypeError" ? (this.ended ? "the program has ended" : "the program does not answer") : error.message;
    const tick = () => {
      const seconds = Math.ceil((until - Date.now()) / 1000);
      if (seconds <= 0) {
        this.connect();
        return;
      }
      this.handlers.state({ kind: "waiting", text, seconds });
      this.timer = setTimeout(tick, Math.min(1000, until - Date.now()));
    };
    tick();
  }

  stop() {
    clearTimeout(this.timer);
    clearTimeout(this.watch);
    this.silent = false;
    this.abort?.abort();
  }

  sight() {
    clearTimeout(this.hiding);
    if (document.hidden) {
      this.hiding = setTimeout(() => {
        this.asleep = true;
        this.stop();
      }, hiddenFor * 1000);
    } else if (this.asleep) {
      this.asleep = false;
      this.connect();
    }
  }
}

async function refusal(answer) {
  let text = "the program answers " + answer.status;
  try {
    text = (await answer.json()).error ?? text;
  } catch { /* not our words: the number must do */ }
  const error = new Error(text);
  error.needsToken = answer.status === 401;
  error.wait = Number(answer.headers.get("Retry-After")) || 0;
  return error;
}

/** Moves the token out of the address, where it would be seen and copied. */
function takeToken() {
  const address = new URL(location.href);
  const token = address.searchParams.get("token");
  try {
    if (!token) return sessionStorage.getItem("dunlin-token");
    sessionStorage.setItem("dunlin-token", token);
  } catch {
    return token; // no storage: it must stay in the address
  }
  address.searchParams.delete("token");
  history.replaceState(null, "", address);
  return token;
}
