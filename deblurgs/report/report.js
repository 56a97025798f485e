"use strict";
// Turns the pairs of pictures into sliders. Everything else on the page needs no script.
document.documentElement.classList.add("js");
for (const stage of document.querySelectorAll(".stage")) {
  const slider = stage.querySelector("input");
  slider.hidden = false;
  const move = () => {
    stage.style.setProperty("--at", slider.value + "%");
    slider.setAttribute("aria-valuetext", 100 - slider.value + " percent sharp");
  };
  slider.addEventListener("input", move);
  move();
}
