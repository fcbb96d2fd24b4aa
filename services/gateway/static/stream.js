// Server-sent events by fetch: unlike EventSource it can send an API key, and tells a refusal from a broken line.

const KEY = "answerline.key";
const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 15_000;
const SILENCE = 40_000; // the server sends something every 15 s

const pause = (milliseconds) =>
  new Promise((resolve) => {
    const timer = setTimeout(finish, milliseconds);
    addEventListener("online", finish);
    document.addEventListener("visibilitychange", finish);
    function finish() {
      clearTimeout(timer);
      removeEventListener("online", finish);
      document.removeEventListener("visibilitychange", finish);
      resolve();
    }
  });

async function* events(body, heard) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    heard();
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const event = { name: "message", data: "" };
      for (const line of block.split("\n")) {
        if (line.startsWith("event: ")) event.name = line.slice(7);
        if (line.startsWith("data: ")) event.data += line.slice(6);
      }
      if (event.data) yield event;
    }
  }
}

/** Listens for ever: hear(event) for each event, link(state) when the line breaks, askForKey(status, hadKey) → key when refused. */
export async function follow(address, { hear, link, askForKey }) {
  let wait = FIRST_PAUSE;
  let key = sessionStorage.getItem(KEY);
  for (;;) {
    const line = new AbortController();
    let silence;
    const heard = () => {
      clearTimeout(silence);
      silence = setTimeout(() => line.abort(), SILENCE);
    };
    try {
      heard();
      const headers = key ? { Authorization: `Bearer ${key}` } : {};
      const response = await fetch(address, { headers, cache: "no-store", signal: line.signal });
      if (response.status === 401 || response.status === 403) {
        clearTimeout(silence);
        sessionStorage.removeItem(KEY);
        key = await askForKey(response.status, Boolean(key));
        sessionStorage.setItem(KEY, key);
        continue;
      }
      if (response.ok) {
        for await (const event of events(response.body, heard)) {
          wait = FIRST_PAUSE;
          hear(event);
        }
      }
    } catch (fault) {
      if (!(fault instanceof TypeError || fault.name === "AbortError")) console.error(fault);
    } finally {
      clearTimeout(silence);
      line.abort();
    }
    link("lost");
    await pause(wait * (0.75 + Math.random() / 2));
    wait = Math.min(wait * 2, LONGEST_PAUSE);
  }
}
