// The page around recommend.js. Titles and ids may hold anything: they become text, never markup.

const $ = (id) => document.getElementById(id);
const SHOWN = 60; // products in the list; a search brings others
const BEST = 10;  // recommendations
const ALL = Number.MAX_SAFE_INTEGER;
const FACETS = 12;  // tags to choose from, the most frequent ones

const state = {
  model: null,
  products: [],      // {id, name, note}: what newcomers are recommended stands first
  chosen: [],        // of these, oldest first
  opened: 0,         // files so far: the last one stays
  asked: 0,          // questions so far: the answer to the last one is shown
  requests: null,    // to this site, until the first answer
  only: new Set(),   // tags: of each column one has to be there
};
let engine = null;   // recommend.js

/** An element with properties or attributes, and with texts and elements in it. */
function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

const plain = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;

// ---- The model

async function openModel(name, getBytes) {
  const turn = ++state.opened;
  $("trouble").hidden = true;
  try {
    engine ??= await import("./recommend.js");
    const bytes = await getBytes();
    const model = await load(name, bytes);
    const begun = performance.now();
    // The answer to nothing, with everything in it, is the catalogue.
    const { items } = await engine.recommend(model, { k: ALL });
    const took = performance.now() - begun;
    await (turn === state.opened ? state.model : model)?.release();
    if (turn !== state.opened) return;
    Object.assign(state, { model, chosen: [], products: items.map(product), only: new Set() });
    showFacets(rulesOf(bytes));
    $("facts").textContent = `${name}, ${megabytes(bytes.length)}: `
      + `${state.products.length.toLocaleString("en")} products.`;
    $("main").hidden = false;
    $("search").value = "";
    state.asked++;
    showAnswer(items.slice(0, BEST), took);
    showChosen();
    showProducts();
  } catch (error) {
    if (turn === state.opened) showTrouble(error);
  }
  if (turn === state.opened) $("loading").hidden = true;
}

async function load(name, bytes) {
  const model = await engine.load(bytes).catch((error) => {
    throw new Error(`${name} cannot be opened as a model: ${error.message}`);
  });
  const inputs = model.inputNames;
  if (["history", "exclude", "candidates", "k"].every((own) => inputs.includes(own))) return model;
  await model.release();
  throw new Error(`${name} is a model, but not one of attnrec: it takes ${inputs.join(", ")}.`);
}

/** What the file knows of its items: its metadata entry `attnrec.rules`. */
function rulesOf(bytes) {
  const end = bytes.subarray(-2_000_000); // facts stand behind the graph
  const name = "attnrec.rules\x12";
  let place = new TextDecoder("latin1").decode(end).lastIndexOf(name);
  if (place < 0) return {};
  place += name.length;
  let length = 0, shift = 0;
  do length += (end[place] & 127) * 2 ** shift, shift += 7; while (end[place++] & 128);
  return JSON.parse(new TextDecoder().decode(end.subarray(place, place + length)));
}

function showFacets({ tags = {} }) {
  const counted = Object.entries(tags).flatMap(([column, values]) => Object.entries(values)
    .map(([value, n]) => ({ tag: `${column}:${value}`, value, n })));
  const most = counted.sort((a, b) => b.n - a.n).slice(0, FACETS);
  $("facets").hidden = !most.length;
  $("facets").replaceChildren(...most.map(({ tag, value }) => {
    const button = make("button", { type: "button", "aria-pressed": "false", title: tag }, value);
    button.onclick = () => {
      const isOn = !state.only.delete(tag);
      if (isOn) state.only.add(tag);
      button.setAttribute("aria-pressed", String(isOn));
      changed();
    };
    return button;
  }));
}

function showTrouble(error) {
  $("trouble").textContent = error.message;
  $("trouble").hidden = false;
}

function product({ id, title }) {
  const name = title || String(id); // a title may be ""
  return { id, name, note: title ? String(id) : "" };
}

async function besideThePage() {
  const hint = "Copy a model file there, or open one from your disk.";
  const response = await fetch("model.onnx").catch((error) => {
    throw new Error(`model.onnx cannot be fetched (${error.message}). ${hint}`);
  });
  if (!response.ok) {
    throw new Error(`There is no model.onnx beside this page yet (${response.status}). ${hint}`);
  }
  return new Uint8Array(await response.arrayBuffer());
}

function fromDisk(file) {
  return openModel(file.name, async () => new Uint8Array(await file.arrayBuffer()));
}

// ---- What was chosen

/** Take a product, or take it back. */
function toggle(item) {
  const place = state.chosen.indexOf(item);
  if (place < 0) state.chosen.push(item);
  else state.chosen.splice(place, 1);
  return changed();
}

async function changed() {
  showChosen();
  for (const button of $("products").querySelectorAll("button")) press(button);
  await answer().catch(showTrouble);
}

function showChosen() {
  $("chosen").replaceChildren(...state.chosen.map((item) => make("li", {}, make("button", {
    type: "button", "aria-label": `Take back ${item.name}`,
    onclick: () => { toggle(item); $("search").focus(); },
  }, item.name))));
  $("chosen").scrollTop = $("chosen").scrollHeight;
  $("chosen").hidden = !state.chosen.length;
  $("nothing").hidden = state.chosen.length > 0;
  $("clear").disabled = !state.chosen.length;
}

function surprise() {
  const pick = () => state.products[Math.floor(Math.random() * state.products.length)];
  state.chosen = [...new Set([pick(), pick(), pick()])];
  return changed();
}

// ---- The products

function showProducts() {
  const words = plain($("search").value.trim()).split(/\s+/);
  const found = words[0] === "" ? state.products : state.products.filter((item) => {
    item.words ??= plain(`${item.name} ${item.note}`);
    return words.every((word) => item.words.includes(word));
  });
  const rest = found.length - SHOWN;
  $("products").replaceChildren(...found.slice(0, SHOWN).map((item) => make("li", {}, press(
    Object.assign(make("button", { type: "button", onclick: () => toggle(item) }, label(item),
      make("span", { className: "mark", "aria-hidden": "true" })), { item })))));
  if (rest > 0) $("products").append(make("li", { className: "soft" },
    `and ${rest.toLocaleString("en")} more: search for them`));
  $("products").scrollTop = 0;
  $("count").textContent = !found.length ? "Nothing found"
    : `${found.length.toLocaleString("en")} ${words[0] === "" ? "products" : "found"}`;
  oneStop($("products"));
}

function press(button) {
  const isChosen = state.chosen.includes(button.item);
  button.setAttribute("aria-pressed", String(isChosen));
  button.querySelector(".mark").textContent = isChosen ? "✓" : "+";
  return button;
}

function label({ name, note }) {
  const children = note ? [name, make("span", { className: "id" }, note)] : [name];
  return make("span", { className: "name" }, ...children);
}

// ---- The answer

async function answer() {
  const turn = ++state.asked;
  const begun = performance.now();
  const history = state.chosen.map(({ id }) => id);
  const rules = state.only.size ? { require_any: [...state.only] } : {};
  const { items } = await engine.recommend(state.model, { history, k: BEST, ...rules });
  if (turn === state.asked) showAnswer(items, performance.now() - begun);
}

function showAnswer(items, took) {
  showItems(items);
  const whom = state.chosen.length ? "" : " for somebody new";
  $("status").textContent = `${items.length} products${whom}, found in ${took.toFixed(1)} ms.`;
  requestAnimationFrame(() => setTimeout(showTraffic)); // when they can be seen
}

function showItems(items) {
  const rows = [...$("items").children];
  const focused = rows.findIndex((row) => row.contains(document.activeElement));
  const before = new Map(rows.map((row) => [row.dataset.id, row.offsetTop]));
  const best = items[0]?.score ?? 0;
  const range = best - (items.at(-1)?.score ?? 0) || 1;
  $("items").replaceChildren(...items.map((item, i) => {
    const bar = make("span");
    bar.style.width = `${100 - 96 * (best - item.score) / range}%`;
    const row = make("li", {}, make("button", {
      type: "button", onclick: () => toggle(state.products.find(({ id }) => id === item.id)),
    }, make("span", { className: "rank" }, `${i + 1}`), label(product(item)),
      make("span", { className: "mark", "aria-hidden": "true" }, "+"),
      make("span", { className: "bar", "aria-hidden": "true" }, bar),
      make("span", { className: "score", title: "Score" }, item.score.toFixed(3))));
    row.dataset.id = String(item.id);
    return row;
  }));
  oneStop($("items"), Math.max(focused, 0));
  if (focused >= 0) $("items").querySelector("[tabindex='0']")?.focus();
  glide(before);
}

/** Each row goes from where it was to where it is. */
function glide(before) {
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  for (const row of $("items").children) {
    const from = before.get(row.dataset.id);
    if (from === row.offsetTop) continue;
    const start = from === undefined ? { opacity: 0 }
      : { transform: `translateY(${from - row.offsetTop}px)` };
    row.animate([start, {}], { duration: 250, easing: "ease-out" });
  }
}

/** What the page has loaded, as the browser counts it; and that this was all. */
function showTraffic() {
  const loaded = performance.getEntriesByType("resource");
  if (state.requests === null) {
    state.requests = loaded.length;
    performance.mark("first answer");
  }
  const page = performance.getEntriesByType("navigation");
  const bytes = [...page, ...loaded].reduce((sum, entry) => sum + entry.encodedBodySize, 0);
  const since = loaded.length - state.requests;
  const first = performance.getEntriesByName("first answer")[0].startTime;
  $("traffic").textContent = `${megabytes(bytes)} came from this site, the first answer `
    + `${(first / 1000).toFixed(1)} s after opening. Requests since then: ${since}. `
    + "Go offline if you like: it goes on answering.";
}

// ---- Keys

/** A list is one stop of the Tab key; arrows move inside. */
function oneStop(list, place = 0) {
  const buttons = [...list.querySelectorAll("button")];
  const stop = Math.min(place, buttons.length - 1);
  buttons.forEach((button, i) => { button.tabIndex = i === stop ? 0 : -1; });
}

for (const list of [$("products"), $("items")]) {
  list.onkeydown = (event) => {
    const buttons = [...list.querySelectorAll("button")];
    const place = buttons.indexOf(document.activeElement);
    const last = buttons.length - 1;
    const to = { ArrowDown: place + 1, ArrowUp: place - 1, Home: 0, End: last }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    if (to < 0) return list === $("products") && $("search").focus();
    oneStop(list, to);
    buttons[Math.min(to, last)].focus();
  };
}
$("search").oninput = showProducts;
$("search").onkeydown = (event) => {
  if (event.isComposing) return;
  const first = $("products").querySelector("button");
  if (event.key === "ArrowDown") first?.focus();
  else if (event.key === "Enter" && first) {
    toggle(first.item);
    $("search").select();
  } else if (event.key === "Backspace" && !$("search").value && state.chosen.length) {
    toggle(state.chosen.at(-1));
  } else return;
  event.preventDefault();
};
$("surprise").onclick = surprise;
$("clear").onclick = () => {
  state.chosen = [];
  changed();
  $("search").focus();
};

// ---- Files from the disk

$("file").onchange = () => {
  if ($("file").files.length) fromDisk($("file").files[0]);
  $("file").value = ""; // the same file may be opened again
};
ondragover = (event) => {
  event.preventDefault();
  document.body.classList.add("dragging");
};
ondragleave = (event) => event.relatedTarget || document.body.classList.remove("dragging");
ondrop = (event) => {
  event.preventDefault();
  document.body.classList.remove("dragging");
  if (event.dataTransfer.files.length) fromDisk(event.dataTransfer.files[0]);
};

await openModel("model.onnx", besideThePage);
if (state.model && matchMedia("(pointer: fine)").matches) $("search").focus();
