// One ts-mls client behind JSON lines on stdin and stdout, for the MLS bench: ts_mls_peer.mjs FOLDER NAME
// FOLDER has ts-mls in its node_modules.
// request {"op": ..., fields}    reply {"cpu": microseconds of CPU that the work took, ...}
// Bytes travel as hex. Decoding and encoding MLS messages is part of the work; JSON and hex are not.
import { createRequire } from "node:module"
import { createInterface } from "node:readline"
import { pathToFileURL } from "node:url"

const [folder, name] = process.argv.slice(2)
const mls = await import(pathToFileURL(createRequire(`${folder}/`).resolve("ts-mls")))

const hex = (bytes) => Buffer.from(bytes).toString("hex")
const unhex = (text) => new Uint8Array(Buffer.from(text, "hex"))
const suite = await mls.getCiphersuiteImpl(
  mls.getCiphersuiteFromName("MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519"))
const credential = { credentialType: "basic", identity: new TextEncoder().encode(name) }
const own = await mls.generateKeyPackage(credential, mls.defaultCapabilities(), mls.defaultLifetime, [], suite)
const encode = (wireformat, body) => mls.encodeMlsMessage({ version: "mls10", wireformat, ...body })
const decode = (bytes) => mls.decodeMlsMessage(bytes, 0)[0]
const noPsks = mls.emptyPskIndex
const commit = (state, extraProposals) => mls.createCommit(
  { state, cipherSuite: suite, pskIndex: noPsks },
  { extraProposals, wireAsPublicMessage: true, ratchetTreeExtension: true })
let group, next

const work = {
  keyPackage: () => encode("mls_key_package", { keyPackage: own.publicPackage }),
  createAndAdd: async ({ keyPackages }) => {
    const alone = await mls.createGroup(unhex("aa"), own.publicPackage, own.privatePackage, [], suite)
    const made = await commit(alone, keyPackages.map((bytes) => (
      { proposalType: "add", add: { keyPackage: decode(bytes).keyPackage } })))
    mls.encodeMlsMessage(made.commit)
    return encode("mls_welcome", { welcome: made.welcome })
  },
  join: async ({ bytes }) => {
    group = await mls.joinGroup(decode(bytes).welcome, own.publicPackage, own.privatePackage, noPsks, suite)
  },
  encrypt: async ({ bytes }) => {
    const made = await mls.createApplicationMessage(group, bytes, suite)
    group = made.newState
    return encode("mls_private_message", { privateMessage: made.privateMessage })
  },
  decrypt: async ({ bytes }) => {
    const read = await mls.processPrivateMessage(group, decode(bytes).privateMessage, noPsks, suite)
    group = read.newState
    return read.message
  },
  update: async () => {
    const made = await commit(group, [])
    next = made.newState
    return mls.encodeMlsMessage(made.commit)
  },
  merge: () => { group = next },
  process: async ({ bytes }) => {
    group = (await mls.processPublicMessage(group, decode(bytes).publicMessage, noPsks, suite)).newState
  },
}

for await (const line of createInterface({ input: process.stdin })) {
  const { op, bytes, keyPackages } = JSON.parse(line)
  const given = { bytes: bytes && unhex(bytes), keyPackages: keyPackages?.map(unhex) }
  const before = process.cpuUsage()
  let result, error
  try { result = await work[op](given) } catch (problem) { error = `${problem?.name}: ${problem?.message ?? problem}` }
  const { user, system } = process.cpuUsage(before)
  process.stdout.write(JSON.stringify({ cpu: user + system, error, bytes: result && hex(result) }) + "\n")
}
