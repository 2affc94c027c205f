// The page of one sandbox: its live log, and its terminal. Whatever comes from a sandbox is put in as text.
"use strict";

(() => {
  const LINES = 2000;
  const section = document.getElementById("log-section");
  const log = document.getElementById("log");
  const said = document.getElementById("log-said");

  function add(text, kind) {
    const below = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
    const line = document.createElement("span");
    if (kind) line.className = kind;
    line.textContent = text + "\n";
    log.append(line);
    while (log.childElementCount > LINES) log.firstElementChild.remove();
    if (below) log.scrollTop = log.scrollHeight;
  }

  let lost = 0;
  function follow() {
    const source = new EventSource(section.dataset.log);
    source.onopen = () => {
      log.replaceChildren(); // the last lines come again
      said.textContent = "";
      lost = 0;
    };
    source.addEventListener("line", (event) => add(JSON.parse(event.data).text));
    source.addEventListener("note", (event) => add(JSON.parse(event.data).text, "note"));
    source.addEventListener("end", (event) => {
      source.close();
      said.textContent = JSON.parse(event.data).text;
    });
    source.onerror = () => {
      source.close();
      lost += 1;
      said.textContent = "The log was cut off. It is asked for again.";
      setTimeout(follow, Math.min(30000, 1000 * 2 ** lost));
    };
  }
  follow();
})();

(() => {
  const section = document.getElementById("terminal-section");
  const place = document.getElementById("terminal");
  const open = document.getElementById("terminal-open");
  const user = document.getElementById("terminal-user");
  const said = document.getElementById("terminal-said");
  section.querySelector("[hidden].deeds").hidden = false;
  said.textContent = "";

  let terminal = null;
  let fit = null;
  let socket = null;

  function make() {
    terminal = new Terminal({
      cursorBlink: true,
      fontFamily: "ui-monospace, SFMono-Regular, Menlo, Consolas, 'Liberation Mono', monospace",
      fontSize: 14,
      scrollback: 5000,
      theme: { background: "#0d1117", foreground: "#e6edf3", cursor: "#7ee2d1", selectionBackground: "#264f78" },
    });
    fit = new FitAddon.FitAddon();
    terminal.loadAddon(fit);
    place.hidden = false;
    terminal.open(place);
    fit.fit();
    terminal.onData((text) => {
      if (socket && socket.readyState === WebSocket.OPEN) socket.send(new TextEncoder().encode(text));
      else if (!socket && text === "\r") connect();
    });
    terminal.onBinary((text) => {
      if (socket && socket.readyState === WebSocket.OPEN) socket.send(Uint8Array.from(text, (c) => c.charCodeAt(0)));
    });
    terminal.onResize(({ cols, rows }) => {
      if (socket && socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ cols, rows }));
    });
    new ResizeObserver(() => fit.fit()).observe(place);
  }

  function connect() {
    const asked = new URLSearchParams({ user: user.value, cols: terminal.cols, rows: terminal.rows });
    const mine = new WebSocket(`wss://${location.host}${section.dataset.terminal}?${asked}`);
    let reason = "The connection was lost.";
    socket = mine;
    mine.binaryType = "arraybuffer";
    said.textContent = "Connecting…";
    mine.onopen = () => {
      said.textContent = "";
      open.textContent = "Close terminal";
      open.classList.remove("primary");
      terminal.focus();
    };
    mine.onmessage = (event) => {
      if (typeof event.data === "string") reason = JSON.parse(event.data).ended || reason;
      else terminal.write(new Uint8Array(event.data));
    };
    mine.onclose = () => {
      if (socket !== mine) return;
      socket = null;
      open.textContent = "Open terminal";
      open.classList.add("primary");
      said.textContent = reason;
      // What a program left behind that could not tidy up: its own screen, a mouse that is asked for, a hidden cursor.
      const tidy = terminal.buffer.active.type === "alternate" ? "\x1b[?1049l" : "";
      const words = `[${reason} Press Enter for a new terminal.]`;
      terminal.write(`${tidy}\x1b[?1000;1002;1003;1006;2004l\x1b[?25h\r\n\x1b[0;2m${words}\x1b[0m\r\n`);
    };
  }

  open.addEventListener("click", () => {
    if (socket) {
      socket.close();
      return;
    }
    if (!terminal) make();
    connect();
  });
})();
