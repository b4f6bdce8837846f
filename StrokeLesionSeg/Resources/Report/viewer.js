"use strict";
// Shows the scan of this page with NiiVue. Without WebGL2, or without NiiVue beside the page of a
// study, a sentence says so, and the pictures below remain.
(function () {
  function find(id) { return document.getElementById(id); }
  var section = find("viewer"), note = find("viewer-note"), parts = find("viewer-parts");
  var canvas = find("viewer-canvas"), place = find("viewer-place"), opacity = find("viewer-opacity");
  var data = JSON.parse(find("viewer-data").textContent);
  var nv = null;
  section.hidden = false;

  function say(text) {
    parts.hidden = true;
    note.textContent = text;
    note.hidden = false;
  }

  function bytes(text) {
    var binary = atob(text), array = new Uint8Array(binary.length);
    for (var n = 0; n < binary.length; n++) { array[n] = binary.charCodeAt(n); }
    return array;
  }

  // NiiVue lies in the page, packed; or it was loaded from beside it.
  async function load() {
    var packed = find("niivue");
    if (packed) {
      var stream = new Blob([bytes(packed.textContent)]).stream();
      var code = await new Response(stream.pipeThrough(new DecompressionStream("gzip"))).text();
      var script = document.createElement("script");
      script.textContent = code;
      document.body.appendChild(script);
    }
    return window.niivue;
  }

  function tell(location) {
    var mm = location.mm, voxel = location.values.map(function (v) { return v.value; });
    var words = data.names.map(function (name, n) {
      return name + " " + String(Math.round(mm[n])).replace("-", "\u2212");
    });
    var label = Math.round(voxel[1] || 0);
    place.textContent = words.join(", ") + " mm" + (label > 0 ? ". Lesion " + label : "");
  }

  async function start() {
    if (!document.createElement("canvas").getContext("webgl2")) {
      say("This browser cannot show the scan here (it has no WebGL2). The pictures below show it.");
      return;
    }
    var library = await load();
    if (!library) {
      say("The viewer's script, which belongs beside this page, was not found. The pictures below show the scan.");
      return;
    }
    parts.hidden = false;
    nv = new library.Niivue({
      backColor: [0, 0, 0, 1], crosshairColor: [0.62, 0.83, 1, 0.9], crosshairWidth: 1,
      show3Dcrosshair: false, multiplanarShowRender: 0, loadingText: "", logLevel: "error",
      isRadiologicalConvention: data.radiological, sagittalNoseLeft: true, textHeight: 0.04,
      multiplanarEqualSize: false, isResizeCanvas: true
    });
    nv.onLocationChange = tell;
    // NiiVue has keys of its own for other views, cuts and what a drag does: they would change the
    // picture behind the buttons above it, and M is the key for a comment.
    var move = nv.keyDownListener;
    nv.keyDownListener = function (event) {
      if (/^Key[HJKL]$/.test(event.code)) { move.call(nv, event); }
    };
    nv.keyUpListener = function () {};
    await nv.attachToCanvas(canvas);
    nv.addColormap("lesion", {
      R: [0, 255, 255], G: [0, 176, 176], B: [0, 0, 0], A: [0, 255, 255], I: [0, 1, 255]
    });
    var images = [
      { base64: data.t1, name: "t1.nii.gz", colormap: "gray", cal_min: 0, cal_max: 255 },
      { base64: data.lesions, name: "lesions.nii.gz", colormap: "lesion", cal_min: 0, cal_max: 1 }
    ];
    for (var n = 0; n < images.length; n++) {
      nv.addVolume(await library.NVImage.loadFromBase64(images[n]));
    }
    nv.setInterpolation(false);
    setOpacity();
    look("all");
    var first = document.querySelector("[data-lesion]");
    if (first) { go(first.getAttribute("data-lesion")); } else { nv.drawScene(); }
    section.setAttribute("data-ready", "yes");
  }

  function setOpacity() { nv.setOpacity(1, opacity.value / 100); }

  function look(view) {
    var types = {
      all: nv.sliceTypeMultiplanar, axial: nv.sliceTypeAxial,
      coronal: nv.sliceTypeCoronal, sagittal: nv.sliceTypeSagittal
    };
    nv.setSliceType(types[view]);
    document.querySelectorAll("[data-view]").forEach(function (button) {
      button.setAttribute("aria-pressed", String(button.getAttribute("data-view") === view));
    });
  }

  function go(label) {
    nv.scene.crosshairPos = nv.mm2frac(data.centres[label]);
    nv.createOnLocationChange();
    nv.drawScene();
  }

  opacity.addEventListener("input", function () { if (nv) { setOpacity(); } });
  parts.addEventListener("click", function (event) {
    var target = event.target, view = target.getAttribute("data-view");
    if (nv && view) { look(view); }
    if (nv && target.getAttribute("data-lesion")) { go(target.getAttribute("data-lesion")); }
  });
  start().catch(function (error) {
    say("The viewer did not start (" + error.message + "). The pictures below show the scan.");
  });
})();
