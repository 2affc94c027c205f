// The page's only script. Every path is relative, so the app works behind any host name or prefix.
const SIGNS = { "-": "−", "*": "×", "/": "÷" };
const element = (id) => document.getElementById(id);

// "5 * -3" as people write it: only the operator between two spaces changes.
const pretty = (expression) => expression.replace(/ ([-*/]) /, (_, op) => ` ${SIGNS[op]} `);

async function call(method, path, body) {
  const response = await fetch(path, {
    method,
    headers: body ? { "Content-Type": "application/json" } : {},
    body: body && JSON.stringify(body),
  });
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(answer.detail ?? `The server answered ${response.status}.`);
  return answer;
}

function show(expression, result, error) {
  element("expression").textContent = expression;
  element("result").textContent = result;
  element("error").textContent = error;
}

function row({ expression, result }) {
  const item = document.createElement("li");
  const left = document.createElement("span");
  const right = document.createElement("strong");
  left.textContent = `${pretty(expression)} =`;
  right.textContent = result;
  item.append(left, right);
  return item;
}

async function refresh() {
  const entries = await call("GET", "api/history");
  element("history").replaceChildren(...entries.map(row));
  element("empty").hidden = entries.length > 0;
  element("clear").disabled = entries.length === 0;
}

// Run one user action at a time; whatever goes wrong is shown and read aloud.
// The button is not disabled meanwhile: that would take the keyboard focus away from it.
let busy = false;
async function act(action) {
  if (busy) return;
  busy = true;
  try {
    await action();
  } catch (error) {
    show("Result", "–", error.message);
  } finally {
    busy = false;
  }
}

element("form").addEventListener("submit", (event) => {
  event.preventDefault();
  const { a, b, op } = event.target.elements;
  act(async () => {
    const body = { a: a.valueAsNumber, b: b.valueAsNumber, op: op.value };
    const { expression, result } = await call("POST", "api/calculate", body);
    show(`${pretty(expression)} =`, result, "");
    await refresh();
  });
});

element("clear").addEventListener("click", () =>
  act(async () => {
    await call("DELETE", "api/history");
    show("Result", "–", "");
    await refresh();
    element("a").focus(); // the button is disabled now; keep the keyboard somewhere useful
  }),
);

refresh().catch((error) => show("Result", "–", error.message));
