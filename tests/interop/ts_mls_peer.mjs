// Members of MLS groups as ts-mls plays them: one process, many members, one JSON object a line.
//
//   -> {"member": NAME, "verb": VERB, ...arguments}        <- {...results}  or  {"error": TEXT}
//
// Bytes travel as hex, missing values as null. The verbs are the methods of `Member`. Each ts-mls call gives a new state, and a verb keeps it
// only at its end: what fails leaves the member as it was.
import { createInterface } from "node:readline"
import { p256, p384, p521 } from "@noble/curves/nist.js"
import * as mls from "ts-mls"
import { decodeRatchetTree, encodeRatchetTree } from "ts-mls/ratchetTree.js"

const DAY = 86_400n // seconds

const hex = (bytes) => Buffer.from(bytes).toString("hex")
const bytes = (text) => new Uint8Array(Buffer.from(text, "hex"))
const wrap = (body) => hex(mls.encodeMlsMessage({ version: "mls10", ...body }))

function unwrap(message) {
  const encoded = bytes(message)
  const decoded = mls.decodeMlsMessage(encoded, 0)
  if (decoded === undefined || decoded[1] !== encoded.length) throw new Error("not an MLSMessage")
  return decoded[0]
}

// RFC 9420, section 5.1.1 has ECDSA keys uncompressed; ts-mls makes compressed ones, and takes both.
const CURVES = { P256: p256, P384: p384, P521: p521 }

async function signatureKeys(suite) {
  const { signKey, publicKey } = await suite.signature.keygen()
  const curve = CURVES[suite.name.split("_").at(-1)]
  return { signKey, publicKey: curve ? curve.Point.fromBytes(publicKey).toBytes(false) : publicKey }
}

class Member {
  // suite: the RFC's name of it; extensions: the types of extensions that this member understands
  static async enrol(name, { suite, extensions }) {
    const member = new Member()
    member.name = name
    member.suite = await mls.getCiphersuiteImpl(mls.getCiphersuiteFromName(suite))
    member.capabilities = mls.defaultCapabilities() // with random GREASE values
    member.capabilities.extensions.push(...extensions)
    member.psks = {}
    return member
  }

  async keyPackage() {
    const now = BigInt(Math.floor(Date.now() / 1000))
    const credential = { credentialType: "basic", identity: new TextEncoder().encode(this.name) }
    const lifetime = { notBefore: now - DAY, notAfter: now + 30n * DAY }
    const keys = await signatureKeys(this.suite)
    const about = [credential, this.capabilities, lifetime, []]
    this.bundle = await mls.generateKeyPackageWithKey(...about, keys, this.suite)
    return { keyPackage: wrap({ wireformat: "mls_key_package", keyPackage: this.bundle.publicPackage }) }
  }

  async create({ groupId }) {
    await this.keyPackage()
    const { publicPackage, privatePackage } = this.bundle
    this.group = await mls.createGroup(bytes(groupId), publicPackage, privatePackage, [], this.suite)
    return {}
  }

  async join({ welcome, tree }) {
    const { publicPackage, privatePackage } = this.bundle
    const beside = tree === null ? undefined : decodeRatchetTree(bytes(tree), 0)[0]
    const psks = mls.makePskIndex(undefined, this.psks)
    const body = unwrap(welcome).welcome
    this.group = await mls.joinGroup(body, publicPackage, privatePackage, psks, this.suite, beside)
    return {}
  }

  learnPsk({ id, psk }) {
    this.psks[mls.bytesToBase64(bytes(id))] = bytes(psk)
    return {}
  }

  // a proposal as it is named on the line: {add: KEY PACKAGE} | {remove: IDENTITY} | {psk: ID} | {extensions: [[TYPE, DATA]]}
  proposal({ add, remove, psk, extensions }) {
    if (add) return { proposalType: "add", add: { keyPackage: unwrap(add).keyPackage } }
    if (remove) return { proposalType: "remove", remove: { removed: this.leafOf(remove) } }
    if (extensions) {
      const wanted = extensions.map(([type, data]) => ({ extensionType: type, extensionData: bytes(data) }))
      return { proposalType: "group_context_extensions", groupContextExtensions: { extensions: wanted } }
    }
    const pskNonce = crypto.getRandomValues(new Uint8Array(this.suite.kdf.size))
    return { proposalType: "psk", psk: { preSharedKeyId: { psktype: "external", pskId: bytes(psk), pskNonce } } }
  }

  leafOf(identity) {
    const isTheirs = (node) => node?.nodeType === "leaf" && hex(node.leaf.credential.identity) === identity
    const node = this.group.ratchetTree.findIndex(isTheirs)
    if (node < 0) throw new Error("there is no such member")
    return node / 2 // leaves have the even node indices
  }

  async propose({ proposal, encrypt }) {
    const made = await mls.createProposal(this.group, !encrypt, this.proposal(proposal), this.suite)
    this.group = made.newState
    return { message: hex(mls.encodeMlsMessage(made.message)) }
  }

  // without proposals, its own or received ones, this is an update
  async commit({ proposals, encrypt, treeInWelcome }) {
    const context = { state: this.group, cipherSuite: this.suite, pskIndex: mls.makePskIndex(this.group, this.psks) }
    const made = await mls.createCommit(context, {
      extraProposals: proposals.map((proposal) => this.proposal(proposal)),
      wireAsPublicMessage: !encrypt,
      ratchetTreeExtension: treeInWelcome,
    })
    this.group = made.newState
    return {
      message: hex(mls.encodeMlsMessage(made.commit)),
      welcome: made.welcome ? wrap({ wireformat: "mls_welcome", welcome: made.welcome }) : null,
      tree: hex(encodeRatchetTree(this.group.ratchetTree)),
    }
  }

  async encrypt({ text }) {
    const made = await mls.createApplicationMessage(this.group, bytes(text), this.suite)
    this.group = made.newState
    return { message: wrap({ wireformat: "mls_private_message", privateMessage: made.privateMessage }) }
  }

  async receive({ message }) {
    const { wireformat, privateMessage, publicMessage } = unwrap(message)
    const psks = mls.makePskIndex(this.group, this.psks)
    const seen =
      wireformat === "mls_private_message"
        ? await mls.processPrivateMessage(this.group, privateMessage, psks, this.suite)
        : await mls.processPublicMessage(this.group, publicMessage, psks, this.suite)
    this.group = seen.newState
    return { text: seen.kind === "applicationMessage" ? hex(seen.message) : null }
  }

  async exportSecret({ label, context, length }) {
    const { exporterSecret } = this.group.keySchedule
    return { secret: hex(await mls.mlsExporter(exporterSecret, label, bytes(context), length, this.suite)) }
  }

  view() {
    return {
      epoch: Number(this.group.groupContext.epoch),
      authenticator: hex(this.group.keySchedule.epochAuthenticator),
      active: this.group.groupActiveState.kind === "active",
    }
  }

  saved() {
    return { state: hex(mls.encodeGroupState(this.group)) }
  }
}

const members = new Map()

async function answer({ member: name, verb, ...rest }) {
  if (verb === "enrol") {
    members.set(name, await Member.enrol(name, rest))
    return {}
  }
  return members.get(name)[verb](rest)
}

for await (const line of createInterface({ input: process.stdin })) {
  let reply
  try {
    reply = await answer(JSON.parse(line))
  } catch (error) {
    reply = { error: `${error?.name}: ${error?.message ?? error}` }
  }
  process.stdout.write(JSON.stringify(reply) + "\n")
}
