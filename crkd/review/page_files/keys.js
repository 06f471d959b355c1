// Tabs, keys and the start of the page.

const tabs = ["classes", "map", "metrics", "about"];
const shortcuts = [
  ["Classes", [["j k", "next, previous class"], ["a", "accept"], ["r", "rename"], ["x", "reject"],
    ["m", "merge into another class"], ["s", "split into clusters"], ["u", "undecided again"]]],
  ["Images", [["i", "go to the images"], ["← ↑ → ↓", "move among them"], ["Space", "select"], ["Shift+arrows", "select a range"],
    ["Ctrl+A", "select all"], ["Enter", "enlarge; arrows show the next image"], ["n", "nearest images of this one"],
    ["t", "move the selected to a class"], ["o b", "take them out, put them back"], ["+ -", "larger, smaller pictures"]]],
  ["Map", [["← →", "points of the class, or of the legend"], ["Shift+↑ Shift+↓", "larger, smaller region around the point"],
    ["drag", "choose a region; with Shift a rectangle"]]],
  ["Page", [["1 2 3 4", "classes, map, metrics, run"], ["Ctrl+Z", "undo"], ["Ctrl+Shift+Z", "redo"], ["Ctrl+S", "save decisions"],
    ["Esc", "leave a field, clear the selection"], ["?", "this help"]]],
];

function open(name) {
  const before = tabs.find((tab) => !$(tab).hidden);
  for (const tab of tabs) {
    $(tab).hidden = tab !== name;
    $(`tab-${tab}`).setAttribute("aria-selected", String(tab === name));
    $(`tab-${tab}`).tabIndex = tab === name ? 0 : -1;
  }
  if (name === before) return;
  if (name === "map") {
    $("map-side").append($("pictures"));
    filterMap();
  }
  if (name === "classes" && view.kind === "map") {
    $("detail").append($("pictures"));
    show({ kind: "class", id: current, part: null });
  }
}

function focusField(id) {
  $(id)?.focus();
  $(id)?.select?.();
}

const letters = {
  j: () => step(1), k: () => step(-1), a: () => act("accept"), x: () => act("reject"), s: () => act("split"), u: () => act("open"),
  r: () => focusField("name"), m: () => focusField("into"), i: () => $("grid").focus(),
  o: () => selected.size && move("out"), b: () => selected.size && move(undefined), t: () => focusField("target"),
  n: () => grid.items.length && showSimilar(grid.items[grid.active]), "+": () => resize(1), "-": () => resize(-1),
  1: () => open("classes"), 2: () => open("map"), 3: () => open("metrics"), 4: () => open("about"),
  "?": () => $("keys").showModal(),
};

function controlKey(event, field) {
  const pressed = event.key.toLowerCase();
  const keys = { s: save, z: event.shiftKey ? redo : undo, y: redo, a: selectAll };
  if (event.altKey || !(pressed in keys) || (field && pressed !== "s")) return;
  event.preventDefault();
  keys[pressed]();
}

function tabKey(event) {
  const next = tabs[(tabs.indexOf(event.target.id.slice(4)) + (event.key === "ArrowRight" ? 1 : 3)) % 4];
  open(next);
  $(`tab-${next}`).focus();
}

function onKey(event) {
  if ($("viewer").open) return viewerKey(event);
  const field = event.target.matches("input, select");
  if (event.ctrlKey || event.metaKey) return controlKey(event, field && event.target.type !== "number");
  if (event.altKey || $("keys").open) return;
  if (event.key === "Escape") return escape(event, field);
  if (field) {
    if (event.key === "Enter" && event.target.id === "name") event.target.blur();
    return;
  }
  if (event.target.getAttribute("role") === "tab" && event.key.startsWith("Arrow")) return tabKey(event);
  if (event.target.id === "grid" && gridKey(event)) return event.preventDefault();
  if (event.target.id === "plane" && mapKey(event)) return event.preventDefault();
  if (event.key in letters) {
    event.preventDefault();
    letters[event.key]();
  }
}

function escape(event, field) {
  if (field) event.target.blur();
  else if (selected.size) clearSelection();
  else if (!$("map").hidden) resetMap();
  else if (view.kind !== "class" || view.part !== null) choose(current);
}

function showKeys() {
  const keys = (text) => text.split(" ").flatMap((key) => [el("kbd", {}, key), " "]);
  $("keys").append(el("h1", {}, "Keys"), el("p", { class: "soft" }, "Escape closes this. Double click enlarges an image; Shift and click select a range."),
    el("div", { class: "key-groups" }, shortcuts.map(([title, rows]) =>
      el("div", {}, el("h2", {}, title), table(["", ""], rows.map(([key, text]) => [el("span", {}, keys(key)), text]), 2)))));
}

function start() {
  $("title").textContent = D.title;
  $("summary").textContent = `${D.run} · ${count(D.num_images)} unlabeled images` +
    (D.answered_known ? `, ${count(D.answered_known)} of them predicted as one of ${known} known classes` : "");
  for (const tab of tabs) $(`tab-${tab}`).addEventListener("click", () => open(tab));
  for (const [id, act_of] of [["save", save], ["undo", undo], ["redo", redo], ["keys-open", () => $("keys").showModal()]])
    $(id).addEventListener("click", act_of);
  $("filter").addEventListener("input", sortList);
  $("sort").addEventListener("change", sortList);
  document.addEventListener("keydown", onKey);
  addEventListener("resize", once(() => $("map").hidden || drawMap()));
  dark.addEventListener("change", showAll);
  addEventListener("beforeunload", (event) => unsaved && event.preventDefault());
  showKeys();
  startGrid();
  startViewer();
  startMap();
  restore();
  countSizes();
  showMetrics();
  showAbout();
  open("classes");
  current = visible()[0]?.id ?? null;
  if (current === null) show({ kind: "all" });
  else choose(current);
  showProgress();
}

start();
