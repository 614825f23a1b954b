// Bundles src/ into dist/ under names that hold a hash of their bytes, each with a gzipped twin.
// Called by build.py, which decides whether anything is to be done.
import { build } from "esbuild";
import { createHash } from "node:crypto";
import { copyFileSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join, basename } from "node:path";
import { gzipSync } from "node:zlib";

const root = import.meta.dirname;
const dist = join(root, "dist");
const assetsUrl = process.argv[2];
const inputs = process.argv[3];

const common = {
  absWorkingDir: root,
  bundle: true,
  minify: true,
  legalComments: "none",
  target: ["es2022"],
  outdir: dist,
  metafile: true,
  logLevel: "warning",
  loader: { ".css": "text", ".woff2": "file" },
};

const nameOf = (result, entry) =>
  basename(
    Object.entries(result.metafile.outputs).find(([, output]) => output.entryPoint === entry)[0],
  );

rmSync(dist, { recursive: true, force: true });
mkdirSync(dist, { recursive: true });

const worker = await build({
  ...common,
  entryPoints: ["src/live/worker.js"],
  entryNames: "live-worker-[hash]",
  format: "iife",
});
const hash = (bytes) => createHash("sha256").update(bytes).digest("hex").slice(0, 10);
const fonts = {};
for (const subset of ["latin", "latin-ext"]) {
  const from = join(root, `node_modules/@fontsource-variable/inter/files/inter-${subset}-wght-normal.woff2`);
  fonts[subset] = `inter-${subset}-${hash(readFileSync(from))}.woff2`;
  copyFileSync(from, join(dist, fonts[subset]));
}

// The component in the app, and the page behind a dashboard's link: they share all but their few lines.
const pages = await build({
  ...common,
  entryPoints: ["src/canvas.js", "src/link.js"],
  entryNames: "[name]-[hash]",
  chunkNames: "[name]-[hash]",
  format: "esm",
  splitting: true,
  define: {
    WORKER_FILE: JSON.stringify(nameOf(worker, "src/live/worker.js")),
    FONT_FILES: JSON.stringify({
      [fonts.latin]: "U+0000-024F, U+2000-22FF",
      [fonts["latin-ext"]]: "U+0250-1EFF",
    }),
  },
});
const names = {
  worker: nameOf(worker, "src/live/worker.js"),
  canvas: nameOf(pages, "src/canvas.js"),
  link: nameOf(pages, "src/link.js"),
  font_latin: fonts.latin,
  font_latin_ext: fonts["latin-ext"],
};

// What Streamlit loads: one line that leads to the immutable file.
const index = `export { default } from ${JSON.stringify(`${assetsUrl}/${names.canvas}`)};\n`;
names.index = `index-${hash(index)}.js`;
writeFileSync(join(dist, names.index), index);

let bytes = 0;
for (const file of readdirSync(dist)) {
  if (!file.endsWith(".js")) continue;
  const zipped = gzipSync(readFileSync(join(dist, file)), { level: 9 });
  writeFileSync(join(dist, `${file}.gz`), zipped);
  bytes += zipped.length;
}
writeFileSync(join(dist, "assets.json"), JSON.stringify({ inputs, ...names }, null, 2) + "\n");
console.log(`${readdirSync(dist).length} files, ${(bytes / 1024).toFixed(0)} kB of script gzipped`);
