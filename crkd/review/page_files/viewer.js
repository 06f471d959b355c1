// One image, enlarged, with its facts.

let viewed = 0;

function enlarge(place) {
  if (!grid.items.length) return;
  viewed = place;
  showViewed();
  if (!$("viewer").open) $("viewer").showModal();
}

function walk(by) {
  const next = viewed + by;
  if (next < 0 || next >= grid.items.length) return;
  viewed = next;
  goTo(viewed);
  showViewed();
}

function factsOf(index) {
  const image = D.images[index], target = targetOf(index);
  const rows = [["File", image.id], ["Class", targetName(target)]];
  if (baseOf(target) !== image.class) rows.push(["Class by the model", found.get(image.class)?.name ?? D.known[image.class]]);
  if (moved.has(index)) rows.push(["Decided by", "you"]);
  else if (image.decided) rows.push(["Decided by", "a person, in an earlier review"]);
  rows.push(["Confidence", percent(image.confidence)]);
  if (image.disputed !== undefined) rows.push(["Disputed", `the joint output says ${D.known[image.disputed]}, a known class`]);
  return rows;
}

function showViewed() {
  const index = grid.items[viewed], image = D.images[index];
  $("viewer-picture").replaceChildren(enlarged(index));
  $("viewer-place").textContent = `${count(viewed + 1)} of ${count(grid.items.length)}`;
  $("viewer-facts").replaceChildren(
    el("dl", {}, factsOf(index).flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)])),
    image.near.length ? el("div", {}, el("h2", {}, "Nearest other classes"),
      el("div", { class: "bars" }, image.near.flatMap(([id, share]) => bar(nameOf(id), share)))) : "");
  $("viewer-select").setAttribute("aria-pressed", String(selected.has(index)));
  $("viewer-previous").disabled = viewed === 0;
  $("viewer-next").disabled = viewed === grid.items.length - 1;
}

function selectViewed() {
  toggle(viewed);
  showViewed();
}

function viewerKey(event) {
  const keys = { ArrowRight: () => walk(1), ArrowDown: () => walk(1), ArrowLeft: () => walk(-1), ArrowUp: () => walk(-1),
    n: similarOfViewed, s: selectViewed };
  if (!(event.key in keys)) return;
  event.preventDefault();
  keys[event.key]();
}

function similarOfViewed() {
  $("viewer").close();
  showSimilar(grid.items[viewed]);
}

function startViewer() {
  $("viewer-previous").addEventListener("click", () => walk(-1));
  $("viewer-next").addEventListener("click", () => walk(1));
  $("viewer-select").addEventListener("click", selectViewed);
  $("viewer-similar").addEventListener("click", similarOfViewed);
  $("viewer-close").addEventListener("click", () => $("viewer").close());
  $("viewer").addEventListener("close", () => $("grid").hidden || $("grid").focus({ preventScroll: true }));
  $("viewer").addEventListener("click", (event) => event.target === $("viewer") && $("viewer").close());
}
