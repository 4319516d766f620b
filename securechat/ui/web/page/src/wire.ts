// The socket to the core: requests with their answers, and what it tells. The key in the address is used at once and
// taken out of it; what comes for it stays with this tab (sessionStorage), and nowhere else.

export type Json = Record<string, unknown>
export type Told = { method: string; params: Json }

export class Refusal extends Error {
  constructor(
    readonly code: number,
    text: string,
    readonly refusal: string,
  ) {
    super(text)
  }
}

/** Close codes after which it makes no sense to come back by oneself: `ui/web/serving.py`. */
const FINAL = new Set([4401, 4409, 4410])
const RETRY_MS = [250, 500, 1000, 2000, 4000]
/** Bytes of a part of a file: less than what the core takes at once. */
const PART = 256 * 1024
/** Bytes that the browser may keep for the socket before more of a file is read. */
const UNSENT = 4 * 1024 * 1024

export class Wire {
  private socket: WebSocket | undefined
  private waiting = new Map<number, [(value: unknown) => void, (error: Refusal) => void]>()
  private number = 0
  private tries = 0
  private key = location.hash.slice(1)
  private uploads: Promise<unknown> = Promise.resolve()

  constructor(
    private readonly told: (message: Told) => void,
    /** Whether there is a connection, and why there is none any more if it does not come back. */
    private readonly changed: (connected: boolean, over: string, code: number) => void,
  ) {
    if (this.key) history.replaceState(null, "", "/")
  }

  connect(): void {
    const socket = new WebSocket(`ws://${location.host}/socket`)
    this.socket = socket
    socket.onopen = () => {
      const tab = sessionStorage.getItem("tab")
      socket.send(JSON.stringify(this.key ? { key: this.key } : { tab: tab ?? "" }))
      this.key = ""
    }
    socket.onmessage = ({ data }) => this.take(JSON.parse(data as string) as Json)
    socket.onclose = ({ code, reason }) => {
      for (const [, refuse] of this.waiting.values()) refuse(new Refusal(0, "There is no connection to securechat web.", ""))
      this.waiting.clear()
      const over = FINAL.has(code) || this.tries >= 40
      this.changed(false, over ? reason || "securechat web does not answer any more." : "", code)
      if (!over) setTimeout(() => this.connect(), RETRY_MS[Math.min(this.tries++, RETRY_MS.length - 1)])
    }
  }

  private take(message: Json): void {
    if (typeof message["method"] === "string") {
      if (message["method"] === "welcome") {
        sessionStorage.setItem("tab", (message["params"] as { tab: string }).tab)
        this.tries = 0
        this.changed(true, "", 0)
        return
      }
      this.told(message as unknown as Told)
      return
    }
    const waiting = this.waiting.get(message["id"] as number)
    if (!waiting) return
    this.waiting.delete(message["id"] as number)
    const error = message["error"] as { code: number; message: string; data?: { refusal: string } } | undefined
    if (error) waiting[1](new Refusal(error.code, error.message, error.data?.refusal ?? ""))
    else waiting[0](message["result"])
  }

  /** Ask for a command of the core, or for something to see. */
  ask(method: string, params: Json = {}): Promise<unknown> {
    const id = ++this.number
    return new Promise((done, refuse) => {
      if (this.socket?.readyState !== WebSocket.OPEN) {
        refuse(new Refusal(0, "There is no connection to securechat web.", ""))
        return
      }
      this.waiting.set(id, [done, refuse])
      this.socket.send(JSON.stringify({ jsonrpc: "2.0", id, method, params }))
    })
  }

  /** Share a file: one after the other, each part once there is room for it. */
  upload(file: Blob, name: string, params: Json): Promise<unknown> {
    const sent = this.uploads.then(async () => {
      const answer = this.ask("upload", { ...params, name, size: file.size, media_type: file.type.slice(0, 100) })
      const socket = this.socket
      for (let begin = 0; begin < file.size && socket?.readyState === WebSocket.OPEN; begin += PART) {
        socket.send(await file.slice(begin, begin + PART).arrayBuffer())
        while (socket.bufferedAmount > UNSENT) await new Promise((next) => setTimeout(next, 20))
      }
      return answer
    })
    this.uploads = sent.catch(() => undefined)
    return sent
  }
}
