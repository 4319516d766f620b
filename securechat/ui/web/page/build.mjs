// Builds the page into ../site, or into the folder that is named. The same sources give the same bytes.
import { copyFile, mkdir, readFile, writeFile } from "node:fs/promises"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import { build } from "esbuild"

const here = dirname(fileURLToPath(import.meta.url))
const site = process.argv[2] ?? join(here, "..", "site")
await mkdir(site, { recursive: true })
await build({
  absWorkingDir: here,
  entryPoints: { page: "src/main.tsx" },
  outdir: site,
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  charset: "utf8",
  jsx: "automatic",
  jsxImportSource: "preact",
  legalComments: "none",
  logLevel: "warning",
})
for (const name of ["index.html", "icon.svg"]) await copyFile(join(here, "src", name), join(site, name))
const licence = await readFile(join(here, "node_modules", "preact", "LICENSE"), "utf8")
const version = JSON.parse(await readFile(join(here, "node_modules", "preact", "package.json"), "utf8")).version
await writeFile(join(site, "LICENSES.txt"), `page.js contains Preact ${version}, under this licence:\n\n${licence}`)
