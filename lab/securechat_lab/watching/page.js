"use strict";
const story = JSON.parse(document.getElementById("story").textContent);
const LABEL = 84; // pixels in front of the time axis
const SVG = "http://www.w3.org/2000/svg";
const state = { at: 0, layer: 0, all: false, until: false, timer: 0 };
const byId = (id) => document.getElementById(id);
let rows = [];

// All text is set as text, and none is ever parsed as markup.
function element(name, kind, text, ...children) {
  const made = document.createElement(name);
  if (kind) made.className = kind;
  if (text) made.textContent = text;
  made.append(...children);
  return made;
}

function drawn(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const key in attributes) made.setAttribute(key, attributes[key]);
  if (text) made.textContent = text;
  return made;
}

const shown = () => story.moments.filter((each) => state.all || each.main);

function history(moment) {
  const svg = drawn("svg", {});
  const x = (branch) => 14 + 16 * branch;
  if (!moment.seq) {
    const kind = moment.kind === "alarm" || moment.refused ? "alarm" : "";
    svg.append(drawn("text", { x: x(0), y: 22, class: kind }, moment.symbol));
    return svg;
  }
  for (let branch = 0; branch < moment.branches; branch++) {
    const begins = moment.new.includes(branch);
    svg.append(drawn("line", { x1: x(branch), y1: begins ? 17 : 0, x2: x(branch), y2: "100%" }));
    if (begins) svg.append(drawn("line", { x1: x(0), y1: 17, x2: x(branch), y2: 17 }));
  }
  for (let branch = 0; branch < moment.branches; branch++) {
    const kind = "node" + (moment.fork ? " alarm" : "");
    if (!moment.on.includes(branch)) {
      if (moment.new.includes(branch)) svg.append(drawn("text", { x: x(branch), y: 22, class: "alarm" }, "✗"));
    } else if (moment.kind === "commit") {
      svg.append(drawn("path", { d: `M${x(branch)} 10 l7 7 l-7 7 l-7 -7 z`, class: kind }));
    } else {
      const filled = moment.kind === "message" ? "" : " hollow";
      svg.append(drawn("circle", { cx: x(branch), cy: 17, r: 5, class: kind + filled }));
    }
  }
  return svg;
}

function record([conn, up, size]) {
  const bar = element("i");
  bar.style.width = Math.max(3, Math.round(Math.sqrt(size / story.largest) * 70)) + "px";
  const made = element("div", "record mono", `${conn}${up ? "↑" : "↓"}${size}`);
  made.title = `${size} bytes ${up ? "to" : "from"} the server, on connection ${conn}`;
  made.append(bar);
  return made;
}

function row(moment, index) {
  const made = element("tr");
  made.id = "moment" + index;
  made.tabIndex = -1;
  made.append(element("td", "time", moment.t.toFixed(3)));
  made.append(element("td", "history", "", history(moment)));
  const records = element("div", "", "", ...moment.network.slice(0, 6).map(record));
  if (moment.network.length > 6) records.append(element("span", "mono", `+${moment.network.length - 6}`));
  made.append(element("td", "network", "", records));
  const bytes = element("span", "cipher mono", `${moment.size} ${moment.cipher}`.trim());
  made.append(element("td", "server", "", element("div", "", moment.server), bytes));
  for (const [mark, text] of moment.people) {
    const kind = { "!": " alarm", "✗": " alarm", "≠": " alarm", "·": " notice" }[mark] || "";
    made.append(element("td", "person" + kind, "", element("div", "clamp", text && `${mark} ${text}`)));
  }
  made.addEventListener("click", () => choose(index));
  return made;
}

function fill() {
  rows = shown().map(row);
  byId("rows").replaceChildren(...rows);
}

function axis() {
  const width = byId("axis").clientWidth - 48, span = width - LABEL;
  const label = LABEL;
  const svg = drawn("svg", {});
  const place = (t) => label + (t / story.end) * span;
  const here = shown()[state.at];
  const last = state.until && here ? place(here.t) : width;
  const most = Math.max(...story.axis.up, ...story.axis.down, 1);
  const step = span / story.axis.up.length;
  for (const way of ["up", "down"]) {
    story.axis[way].forEach((bytes, bin) => {
      const x = label + bin * step;
      const high = Math.sqrt(bytes / most) * 24; // the root, so that a short answer can be seen beside a stock of keys
      const y = way === "up" ? 28 - high : 30;
      if (bytes && x <= last) {
        svg.append(drawn("rect", { x, y, width: Math.max(step - 1, 1), height: high, class: way }));
      }
    });
  }
  svg.append(drawn("line", { x1: label, y1: 29, x2: width, y2: 29 }));
  for (const moment of shown()) {
    if (place(moment.t) > last) break;
    const alarm = moment.fork || moment.kind === "alarm" || moment.refused;
    const x = place(moment.t);
    svg.append(drawn("line", { x1: x, y1: 56, x2: x, y2: 61, class: alarm ? "alarm" : "tick" }));
  }
  if (here) svg.append(drawn("line", { x1: place(here.t), y1: 2, x2: place(here.t), y2: 62, class: "here" }));
  svg.append(drawn("text", { x: 0, y: 20 }, "▤ to server"), drawn("text", { x: 0, y: 46 }, "▤ to people"));
  svg.append(drawn("text", { x: label, y: 73 }, "0 s"));
  svg.append(drawn("text", { x: width, y: 73, "text-anchor": "end" }, story.end.toFixed(2) + " s"));
  byId("axis").replaceChildren(svg);
}

function onion(moment) {
  let inner = null;
  moment.onion.forEach((layer, index) => {
    const name = element("b", "", `${story.symbols[layer.seen]} ${layer.name}`);
    const size = element("em", "", layer.size + " B");
    const label = element("div", "label", "", name, element("span", "", layer.adds), size);
    label.title = layer.adds;
    const box = element("div", `layer ${layer.seen}` + (index === state.layer ? " chosen" : ""), "", label);
    if (inner) box.append(inner);
    else if (layer.name === "text") box.append(element("div", "core", moment.text));
    box.addEventListener("click", (event) => { event.stopPropagation(); state.layer = index; details(); });
    inner = box;
  });
  const who = element("ul", "who");
  for (const [seen, words] of moment.who) who.append(element("li", seen, `${story.symbols[seen]} seen by ${words}`));
  const notices = moment.told.filter((text) => text[0] === "·").map((text) => element("p", "told", text));
  byId("onion").replaceChildren(...(inner ? [inner, who] : []), ...notices);
}

function inside(moment) {
  const layer = moment.onion[state.layer];
  const parts = [];
  if (layer) {
    parts.push(element("h3", layer.seen, `Inside ${story.symbols[layer.seen]} ${layer.name}: ${layer.size} bytes`));
    parts.push(element("p", "told", layer.adds));
    const list = element("dl");
    for (const [name, size, hex] of layer.parts) {
      list.append(element("dt", "", name), element("dd", "", size + " B"), element("dd", "mono", hex || "·"));
    }
    parts.push(list);
  }
  byId("inside").replaceChildren(...parts);
}

function details() {
  const moment = shown()[state.at];
  if (!moment) {
    byId("heading").textContent = "There is nothing in this recording.";
    return;
  }
  state.layer = Math.max(0, Math.min(state.layer, moment.onion.length - 1));
  byId("heading").textContent = moment.heading;
  const alarms = moment.told.filter((text) => "≠✗!".includes(text[0]));
  byId("told").replaceChildren(...alarms.map((text) => element("p", "told alarm", text)));
  onion(moment);
  inside(moment);
}

function choose(index) {
  state.at = Math.max(0, Math.min(index, rows.length - 1));
  rows.forEach((each, place) => {
    each.setAttribute("aria-selected", place === state.at);
    each.tabIndex = place === state.at ? 0 : -1;
    each.hidden = state.until && place > state.at;
  });
  if (rows[state.at]) {
    rows[state.at].scrollIntoView({ block: "nearest" });
    if (byId("rows").contains(document.activeElement)) rows[state.at].focus({ preventScroll: true });
  }
  axis();
  details();
}

function press(name, on) {
  byId(name).setAttribute("aria-pressed", on);
}

function play(on) {
  clearTimeout(state.timer);
  state.timer = 0;
  press("play", on);
  if (!on) return;
  const moments = shown();
  const here = moments[state.at], next = moments[state.at + 1];
  if (!next) return press("play", false);
  const wait = Math.min(Math.max((next.t - here.t) * 1000, 250), 2000); // nobody wants to watch a pause
  state.timer = setTimeout(() => { choose(state.at + 1); play(true); }, wait);
}

function until() {
  state.until = !state.until;
  press("until", state.until);
  choose(state.at);
}

function everything() {
  const here = shown()[state.at];
  state.all = !state.all;
  press("all", state.all);
  fill();
  const place = shown().findIndex((each) => here && each.t >= here.t);
  choose(place < 0 ? rows.length - 1 : place);
}

const KEYS = {
  ArrowUp: () => choose(state.at - 1), ArrowDown: () => choose(state.at + 1),
  k: () => choose(state.at - 1), j: () => choose(state.at + 1),
  PageUp: () => choose(state.at - 10), PageDown: () => choose(state.at + 10),
  Home: () => choose(0), End: () => choose(rows.length - 1),
  ArrowLeft: () => { state.layer -= 1; details(); }, ArrowRight: () => { state.layer += 1; details(); },
  " ": () => play(!state.timer), u: until, a: everything,
};

document.addEventListener("keydown", (event) => {
  const act = KEYS[event.key];
  if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === " " && event.target.tagName === "BUTTON") return;
  event.preventDefault();
  act();
});
byId("play").addEventListener("click", () => play(!state.timer));
byId("until").addEventListener("click", until);
byId("all").addEventListener("click", everything);
byId("axis").addEventListener("click", (event) => {
  const box = byId("axis").firstChild.getBoundingClientRect();
  const t = ((event.clientX - box.left - LABEL) / (box.width - LABEL)) * story.end;
  const moments = shown();
  let best = 0;
  moments.forEach((each, place) => {
    if (Math.abs(each.t - t) < Math.abs(moments[best].t - t)) best = place;
  });
  choose(best);
});

addEventListener("resize", axis);
byId("scene").textContent = story.title;
byId("problems").textContent = story.problems.length ? "! " + story.problems.join(" ") : "";
const heads = [
  ["time", "Time", "seconds"], ["history", "History", "its log"], ["network", "▤ Network", "connection, bytes"],
  ["server", "▣ Server", "place, epoch, who, bytes"],
  ...story.people.map((name) => ["person people", "☺ " + name, "the words"]),
];
byId("rows").parentElement.style.minWidth = 494 + 104 * story.people.length + "px";
byId("head").append(...heads.map(([kind, text, small]) => element("th", kind, text, element("small", "", small))));
fill();
choose(location.hash ? Number(location.hash.slice(1)) - 1 || 0 : story.begin); // page.html#7: at the seventh
