// What the core tells, kept as it tells it. The rows are those of every face (`ui/view`): none is made here.
import { Refusal, Wire, type Json, type Told } from "./wire"

export type Trust = { trust: string; sign: string; trust_words: string }
export type Item = Trust & {
  id: string
  title: string
  kind: "direct" | "invite" | "open"
  state: string
  members: number
  unread: number
  newest: { sender: string; own: boolean; text: string; time: number } | null
  unconfirmed: string
  absent: string
  mentioned?: boolean
  online?: boolean
}
export type Shared = {
  name: string
  description: string
  media_type: string
  disposition: "attachment" | "image" | "voice"
  size: number
  thumbnail: string
  milliseconds: number
  waveform: string
  width: number
  height: number
  what: string
}
export type Line = Trust & {
  key: string
  row: "line"
  local_id: number
  sender: string
  own: boolean
  text: string
  problem: string
  time: number
  delivery: string
  doubt: string
  written: number
  action: boolean
  answers: { local_id: number; sender: string; text: string; edited: boolean; state: string; why: string } | null
  edited: number
  deleted_by: string
  reactions: { text: string; accounts: string[] }[]
  mentioned: boolean
  file: Shared | null
  fate: string
}
export type Row =
  | Line
  | { key: string; row: "day"; date: string }
  | { key: string; row: "notice"; kind: "notice" | "warning" | "alarm"; text: string }
  | { key: string; row: "new" }
  | {
      key: string
      row: "moving"
      number: number
      kind: "send" | "save"
      name: string
      stage: string
      done: number
      size: number
    }
export type Person = Trust & { account: string; own: boolean; heard: boolean; absent: boolean }
export type About = {
  where: string
  title: string
  kind: Item["kind"]
  state: string
  silent: string
  topic: string
  owners: string[]
  inviters: string[]
  life: number
  types: string
  people: Person[]
}
export type Invitation = {
  conversation: string
  name: string
  inviter: string
  key: string
  first_contact: boolean
  question: number
  members: string[]
}
export type Key = Trust & { key: string; number: string; conversations: string[]; code: string[] }
export type Safety = { account: string; keys: Key[] }
export type Found = { where: string; title: string; line: Line }
export type Room = { name: string; kind: string; members: number; joined: boolean; topic: string }
export type Toast = { number: number; kind: string; text: string }
export type Answer = { typed: string; lines: string[] }

/** Toasts that are shown at once. */
const TOASTS = 4

export class Model {
  connected = false
  over = ""
  code = 0
  account = ""
  state = "connecting"
  why = ""
  items: Item[] = []
  invitations: Invitation[] = []
  where = ""
  rows: Row[] = []
  before = false
  after = false
  about: About | undefined
  safety: Safety | undefined
  rooms: Room[] | undefined
  toasts: Toast[] = []
  answer: Answer | undefined
  /** The conversation in which something is held. */
  held = ""
  password = ""
  /** Said for whoever hears the page and does not see it. */
  aloud: { number: number; text: string } = { number: 0, text: "" }
  /** A line to show, once it is there. */
  target = ""
  files = new Map<number, string>()

  readonly wire: Wire
  private listeners = new Set<() => void>()
  private scheduled = false
  /** Lines are numbered as they arrive: what is above this has not been read out. */
  private newest = 0
  private number = 0

  constructor() {
    this.wire = new Wire(
      (message) => this.take(message),
      (connected, over, code) => {
        Object.assign(this, { connected, over, code })
        this.notify()
      },
    )
  }

  listen(listener: () => void): () => void {
    this.listeners.add(listener)
    return () => this.listeners.delete(listener)
  }

  /** Draw once for all that comes together. */
  notify(): void {
    if (this.scheduled) return
    this.scheduled = true
    queueMicrotask(() => {
      this.scheduled = false
      for (const each of this.listeners) each()
    })
  }

  /** Ask, and say in a toast why it came to nothing. */
  async ask(method: string, params: Json = {}): Promise<unknown> {
    try {
      return await this.wire.ask(method, params)
    } catch (error) {
      if (error instanceof Refusal && error.message) this.toast("warning", error.message)
      return undefined
    }
  }

  toast(kind: string, text: string): void {
    if (this.toasts.some((each) => each.text === text)) return
    const toast = { number: ++this.number, kind, text }
    this.toasts = [...this.toasts, toast].slice(-TOASTS)
    this.notify()
    if (kind === "notice") setTimeout(() => this.dismiss(toast.number), 6000 + 40 * text.length)
  }

  dismiss(number: number): void {
    this.toasts = this.toasts.filter((each) => each.number !== number)
    this.notify()
  }

  say(text: string): void {
    this.aloud = { number: ++this.number, text }
    this.notify()
  }

  async open(conversation: string, around = 0): Promise<void> {
    this.target = around ? `line-${around}` : ""
    await this.ask("open", { conversation, around })
  }

  private take({ method, params }: Told): void {
    switch (method) {
      case "me":
        this.account = params["account"] as string
        break
      case "state":
        this.state = params["state"] as string
        this.why = params["text"] as string
        break
      case "list":
        this.items = params["items"] as Item[]
        this.invitations = params["invitations"] as Invitation[]
        break
      case "opened":
        this.where = params["where"] as string
        this.rows = []
        break
      case "rows":
        this.splice(params as unknown as { where: string; start: number; removed: number; rows: Row[] })
        break
      case "ends":
        this.before = params["before"] as boolean
        this.after = params["after"] as boolean
        break
      case "about":
        this.about = params as unknown as About
        break
      case "safety":
        this.safety = params as unknown as Safety
        break
      case "roomlist":
        this.rooms = params["rooms"] as Room[]
        break
      case "told":
        this.toast(params["kind"] as string, params["text"] as string)
        break
      case "answer":
        this.answered(params as unknown as Answer)
        break
      case "held":
        this.held = params["where"] as string
        break
      case "password":
        this.password = params["why"] as string
        break
      case "file":
        this.keep(params as unknown as { local_id: number; media_type: string; data: string })
        break
      case "ring":
        this.ring(params as unknown as { title: string; text: string; where: string })
        break
    }
    this.notify()
  }

  private splice(change: { where: string; start: number; removed: number; rows: Row[] }): void {
    const fresh = this.rows.length === 0
    const before = new Set(this.rows.map((each) => each.key))
    const newest = this.newest
    this.rows = this.rows.toSpliced(change.start, change.removed, ...change.rows)
    for (const each of change.rows) if (each.row === "line") this.newest = Math.max(this.newest, each.local_id)
    if (fresh) return
    const heard = change.rows.flatMap((each) => {
      if (each.row === "notice" && !before.has(each.key)) return [each.text]
      if (each.row === "line" && !each.own && each.local_id > newest) return [`${each.sender}: ${each.problem || each.text}`]
      return []
    })
    if (heard.length) this.say(heard.slice(-5).join("\n"))
  }

  /** One or two lines are a toast; what is longer stays until it is closed. */
  private answered(answer: Answer): void {
    if (answer.lines.length > 2) this.answer = answer
    else for (const each of answer.lines) this.toast(each.startsWith("!!") ? "warning" : "notice", each.replace(/^(--|!!) /, ""))
    this.say(answer.lines.slice(0, 3).join("\n"))
  }

  private keep({ local_id, media_type, data }: { local_id: number; media_type: string; data: string }): void {
    const bytes = Uint8Array.from(atob(data), (each) => each.charCodeAt(0))
    this.files.set(local_id, URL.createObjectURL(new Blob([bytes], { type: media_type })))
  }

  private ring({ title, text, where }: { title: string; text: string; where: string }): void {
    if (!document.hidden || !("Notification" in window) || Notification.permission !== "granted") return
    const shown = new Notification(title, { body: text, tag: where || "securechat", icon: "/icon.svg" })
    shown.onclick = () => {
      window.focus()
      if (where) void this.open(where)
      shown.close()
    }
  }
}

/** Bytes that came as hexadecimal digits. */
export function bytesOf(hex: string): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(hex.length / 2)
  for (let each = 0; each < bytes.length; each++) bytes[each] = parseInt(hex.slice(2 * each, 2 * each + 2), 16)
  return bytes
}
