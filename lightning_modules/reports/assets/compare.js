// Pictures: the enlarged window follows the pointer in all panels, and two pictures are compared under a divider.
(() => {
  "use strict";

  function setUp(article) {
    const width = Number(article.dataset.width);
    const height = Number(article.dataset.height);
    const size = article.dataset.window.split(",").map(Number);
    const [windowWidth, windowHeight] = [size[2], size[3]];
    let [left, top] = size;
    const panels = [...article.querySelectorAll(".panel")].map((panel) => ({
      name: panel.dataset.name,
      frame: panel.querySelector(".frame"),
      image: panel.querySelector(".frame img"),
      box: panel.querySelector(".box"),
      canvas: panel.querySelector("canvas"),
    }));

    function draw() {
      for (const { image, box, canvas } of panels) {
        box.style.left = `${(100 * left) / width}%`;
        box.style.top = `${(100 * top) / height}%`;
        box.style.width = `${(100 * windowWidth) / width}%`;
        box.style.height = `${(100 * windowHeight) / height}%`;
        const context = canvas.getContext("2d");
        context.imageSmoothingEnabled = false;
        context.drawImage(image, left, top, windowWidth, windowHeight, 0, 0, windowWidth, windowHeight);
      }
    }

    function move(x, y) {
      left = Math.round(Math.min(Math.max(x, 0), width - windowWidth));
      top = Math.round(Math.min(Math.max(y, 0), height - windowHeight));
      draw();
    }

    for (const { frame } of panels) {
      const follow = (event) => {
        const place = frame.getBoundingClientRect();
        const x = ((event.clientX - place.left) / place.width) * width - windowWidth / 2;
        const y = ((event.clientY - place.top) / place.height) * height - windowHeight / 2;
        move(x, y);
      };
      frame.addEventListener("pointerdown", follow);
      frame.addEventListener("pointermove", (event) => {
        if (event.buttons) follow(event);
      });
      frame.addEventListener("keydown", (event) => {
        const step = event.shiftKey ? 32 : 8;
        const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
        if (!way) return;
        event.preventDefault();
        move(left + step * way[0], top + step * way[1]);
      });
    }
    setUpSwipe(article.querySelector(".swipe"), panels);
    Promise.all(panels.map(({ image }) => image.decode())).then(draw);
  }

  function setUpSwipe(swipe, panels) {
    const [first, second] = swipe.querySelectorAll("select");
    const stage = swipe.querySelector(".stage");
    const [below, above] = stage.querySelectorAll("img");
    const divider = stage.querySelector(".divider");
    const range = swipe.querySelector("input[type=range]");

    // The picture of the first choice lies above and is cut off at the divider.
    function divide() {
      above.style.clipPath = `inset(0 ${100 - range.value}% 0 0)`;
      divider.style.left = `${range.value}%`;
    }

    function choose() {
      for (const [select, image] of [[first, above], [second, below]]) {
        const panel = panels[select.selectedIndex];
        image.src = panel.image.src;
        image.alt = panel.image.alt;
      }
    }

    const follow = (event) => {
      const place = stage.getBoundingClientRect();
      range.value = String((100 * (event.clientX - place.left)) / place.width);
      divide();
    };
    stage.addEventListener("pointermove", (event) => {
      if (event.pointerType === "mouse" || event.buttons) follow(event);
    });
    stage.addEventListener("pointerdown", follow);
    range.addEventListener("input", divide);
    first.addEventListener("change", choose);
    second.addEventListener("change", choose);
    choose();
    divide();
    swipe.hidden = false;
  }

  for (const article of document.querySelectorAll(".match")) setUp(article);
})();
