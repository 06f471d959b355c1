// Actions on the selected images.

function showSelection() {
  const box = $("selection");
  box.hidden = selected.size === 0;
  if (box.hidden) return;
  const number = el("strong", {}, `${count(selected.size)} selected`);
  if (box.childElementCount && box.dataset.list === optionsKey()) {
    box.firstElementChild.replaceWith(number);
    $("accept-known").hidden = ![...selected].every((index) => D.images[index].disputed !== undefined);
    return;
  }
  box.dataset.list = optionsKey();
  const select = el("select", { id: "target", "aria-label": "Move the selected images" },
    targetOptions("Move to …", view.kind === "class" && actionOf(view.id) !== "split" ? String(view.id) : null));
  select.addEventListener("change", () => select.value !== "" && move(select.value));
  const button = (id, text, title, act, more = {}) => el("button", { id, title, onclick: act, ...more }, text);
  box.replaceChildren(number, select,
    button("accept-known", "Accept known class", "Move each to the known class that the model prefers", acceptKnown,
      { hidden: ![...selected].every((index) => D.images[index].disputed !== undefined) }),
    button("take-out", "Take out", "Of no class (o)", () => move("out")),
    button("put-back", "Put back", "Where the model put them (b)", () => move(undefined)),
    button("enlarge", "Enlarge", "Enter", () => enlarge(grid.active)),
    button("similar", "Nearest", "Nearest images of the last chosen one (n)", () => showSimilar(grid.items[grid.active])),
    button("clear", "Clear", "Escape", clearSelection));
}

// What the offered classes depend on.
const optionsKey = () => `${past.length}/${future.length}/${view.kind}/${view.id}`;

function move(target) {
  const chosen = [...selected];
  moveTo(chosen, target);
  selected.clear();
  showAll();
  showProgress(target === undefined ? `${images(chosen.length)} put back` : `${images(chosen.length)} moved to ${targetName(target)}`);
  $("grid").hidden || $("grid").focus({ preventScroll: true });
}

function acceptKnown() {
  const chosen = [...selected];
  edit(null, () => chosen.forEach((index) => put(moved, index, D.images[index].disputed)));
  selected.clear();
  showAll();
}
