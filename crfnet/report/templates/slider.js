for (const input of document.querySelectorAll(".pair input")) {
  const show = () => input.parentElement.style.setProperty("--at", input.value + "%");
  input.addEventListener("input", show);
  show(); // a browser may keep the place of a slider when the page is loaded again
}
