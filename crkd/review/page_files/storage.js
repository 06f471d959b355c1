// Decisions that the browser keeps until they are saved, and the saved file.

// Another review of the same model has other decisions.
const key = `crkd-review-${D.model_sha256}-${D.shown_sha256}`;
let unsaved = false;

const keep = (() => {
  let timer = 0;
  // Images are kept by their ids: another page of the run may show them in another order.
  const named = (map) => [...map].map(([index, value]) => [D.images[index].id, value]);
  const write = () => {
    const classes = [...decided].map(([id, choice]) => [id, choice.of ? { ...choice, of: named(choice.of) } : choice]);
    try {
      localStorage.setItem(key, JSON.stringify([classes, named(moved)]));
    } catch { /* a browser may forbid it for local files; the page works without */ }
  };
  addEventListener("pagehide", () => timer && write());
  return () => {
    clearTimeout(timer);
    timer = setTimeout(() => { timer = 0; write(); }, 200);
  };
})();

function restore() {
  try {
    const [classes, images] = JSON.parse(localStorage.getItem(key)) ?? [[], []];
    const place = new Map(D.images.map((image, index) => [image.id, index]));
    const placed = (list) => list.filter(([image]) => place.has(image)).map(([image, value]) => [place.get(image), value]);
    for (const [id, choice] of classes) {
      if (!found.has(id) || (choice.action === "split" && !Array.isArray(choice.of))) continue;
      decided.set(id, choice.of ? { ...choice, of: new Map(placed(choice.of)) } : choice);
    }
    for (const [index, to] of placed(images)) moved.set(index, to);
  } catch { /* nothing was kept, or nothing usable */ }
}

// Called after every change of the decisions.
function changed() {
  unsaved = true;
  countSizes();
  keep();
  showList();
  showProgress();
}

function save() {
  const wrong = problems();
  if (wrong.size) {
    choose(wrong.keys().next().value);
    showProgress("not saved: one class needs a look");
    return;
  }
  const text = JSON.stringify(decisions(), null, 1);
  const url = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  const link = el("a", { href: url, download: "decisions.json" });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 60000);
  unsaved = false;
  showProgress("saved as decisions.json");
}

function showProgress(note) {
  const open = D.classes.filter(({ id }) => decided.has(id)).length;
  const part = moved.size ? `, ${images(moved.size)} moved` : "";
  $("progress").textContent = note ?? `${open} of ${D.classes.length} decided${part}`;
  $("undo").disabled = !past.length;
  $("redo").disabled = !future.length;
}
