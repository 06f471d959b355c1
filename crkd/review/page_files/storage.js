// Decisions that the browser keeps until they are saved, and the saved file.

const key = `crkd-review-${D.model_sha256}`;
let unsaved = false;

const keep = (() => {
  let timer = 0;
  const write = () => {
    const classes = [...decided].map(([id, choice]) => [id, choice.of ? { ...choice, of: [...choice.of] } : choice]);
    try {
      localStorage.setItem(key, JSON.stringify([classes, [...moved]]));
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
    for (const [id, choice] of classes) {
      if (!found.has(id) || (choice.action === "split" && !Array.isArray(choice.of))) continue;
      decided.set(id, choice.of ? { ...choice, of: new Map(choice.of) } : choice);
    }
    for (const [index, to] of images) if (D.images[index]) moved.set(index, to);
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
