// Filters of the gallery: a card stays when it fits every chosen value and holds every typed word.
"use strict";
const cards = [...document.querySelectorAll(".card")];
const choices = [...document.querySelectorAll("select[data-filter]")];
const words = document.querySelector("input[data-filter]");
const count = document.querySelector("[data-count]");
function update() {
  const typed = words.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const card of cards) {
    const fits = choices.every((c) => !c.value || card.dataset[c.dataset.filter].split(" ").includes(c.value));
    const holds = typed.every((word) => card.dataset.text.includes(word));
    card.hidden = !(fits && holds);
    shown += card.hidden ? 0 : 1;
  }
  count.textContent = `${shown} of ${cards.length} tasks`;
}
for (const control of [...choices, words]) control.addEventListener("input", update);
update();
