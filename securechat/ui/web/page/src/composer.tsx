// Where one writes: texts and commands, files and voice notes.
import { useEffect, useRef, useState } from "preact/hooks"
import type { Line, Model } from "./model"
import { Icon, Name } from "./text"

/** How often others may be told that one types. */
const TOLD_MS = 2000
const VOICE = "audio/webm;codecs=opus"

export type Task = { kind: "reply" | "edit"; line: Line } | undefined

export function Composer({ model, task, setTask }: { model: Model; task: Task; setTask: (task: Task) => void }) {
  const box = useRef<HTMLTextAreaElement>(null)
  const picker = useRef<HTMLInputElement>(null)
  const told = useRef(0)
  const drafts = useRef(new Map<string, string>())
  const [text, setText] = useState("")
  const [found, setFound] = useState<{ text: string; note: string }[]>([])
  const [chosen, setChosen] = useState(0)
  const where = model.where

  useEffect(() => {
    setText(drafts.current.get(where) ?? "")
    setFound([])
    setTask(undefined)
    if (!matchMedia("(pointer: coarse)").matches) box.current?.focus()
  }, [where])
  useEffect(() => {
    if (task?.kind === "edit") setText(task.line.text)
    if (task) box.current?.focus()
  }, [task])
  useEffect(() => {
    const area = box.current
    if (!area) return
    area.style.height = "auto"
    area.style.height = `${Math.min(area.scrollHeight + 2, innerHeight * 0.4)}px`
  }, [text])

  const put = (next: string) => {
    setText(next)
    if (task?.kind !== "edit") drafts.current.set(where, next)
    if (!next || Date.now() - told.current > TOLD_MS) {
      told.current = Date.now()
      void model.wire.ask("typing", { text: next }).catch(() => undefined)
    }
    if (next.startsWith("/") && !next.includes("\n")) {
      void model.wire.ask("complete", { text: next }).then(
        (answer) => {
          if (box.current?.value !== next) return
          setFound((answer as { text: string; note: string }[]).slice(0, 8))
          setChosen(0)
        },
        () => undefined,
      )
    } else setFound([])
  }
  const take = (word: string) => {
    put(text.slice(0, text.lastIndexOf(" ") + 1) + word + " ")
    box.current?.focus()
  }
  const send = async (event?: Event) => {
    event?.preventDefault()
    const said = text
    const current = task
    setText("")
    drafts.current.delete(where)
    setFound([])
    setTask(undefined)
    told.current = 0
    try {
      if (current?.kind === "edit") await model.wire.ask("Edit", { local_id: current.line.local_id, text: said })
      else if (current?.kind === "reply") await model.wire.ask("Reply", { local_id: current.line.local_id, text: said })
      else await model.wire.ask("typed", { text: said })
    } catch (error) {
      if (!model.connected) {
        setText(said)
        model.toast("warning", (error as Error).message)
      } else if ((error as Error).message) model.toast("warning", (error as Error).message)
    }
  }
  const keys = (event: KeyboardEvent) => {
    if (event.isComposing) return
    if (found.length && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
      event.preventDefault()
      setChosen((chosen + (event.key === "ArrowDown" ? 1 : found.length - 1)) % found.length)
    } else if (found.length && event.key === "Tab" && !event.shiftKey) {
      event.preventDefault()
      take(found[chosen]?.text ?? "")
    } else if (event.key === "Escape" && (found.length || task)) {
      event.preventDefault()
      if (found.length) setFound([])
      else cancel()
    } else if (event.key === "Enter" && !event.shiftKey) {
      void send(event)
    } else if (event.key === "ArrowUp" && !text) {
      const mine = model.rows.findLast((each) => each.row === "line" && each.own && !each.deleted_by && each.time > 0 && !each.file)
      if (mine?.row === "line") {
        event.preventDefault()
        setTask({ kind: "edit", line: mine })
      }
    }
  }
  const cancel = () => {
    if (task?.kind === "edit") setText(drafts.current.get(where) ?? "")
    setTask(undefined)
  }
  const paste = (event: ClipboardEvent) => {
    const files = [...(event.clipboardData?.files ?? [])]
    if (!files.length) return
    event.preventDefault()
    share(model, files)
  }
  const silent = model.about?.silent ?? ""
  if (model.about?.state === "closed") return <p class="silent">{model.about.title} is over. What was said here can be read.</p>
  return (
    <form class="composer" onSubmit={send}>
      {task && (
        <div class="task">
          <span>
            {task.kind === "edit" ? "Editing your message" : "Answering "}
            {task.kind === "reply" && <Name name={task.line.own ? "yourself" : task.line.sender} />}
            <small dir="auto">{task.line.text || task.line.file?.name}</small>
          </span>
          <button type="button" class="round" aria-label="Cancel" title="Cancel (Esc)" onClick={cancel}>
            <Icon name="close" />
          </button>
        </div>
      )}
      {found.length > 0 && (
        <ul class="found-words" id="words" role="listbox" aria-label="Completions">
          {found.map((each, index) => (
            <li
              key={each.text}
              id={`word-${index}`}
              role="option"
              aria-selected={index === chosen}
              onMouseDown={(event) => {
                event.preventDefault()
                take(each.text)
              }}
            >
              <b>{each.text}</b> <small>{each.note}</small>
            </li>
          ))}
        </ul>
      )}
      <input
        ref={picker}
        type="file"
        multiple
        class="unseen"
        tabindex={-1}
        aria-label="Files to share"
        onChange={(event) => {
          share(model, [...(event.currentTarget.files ?? [])])
          event.currentTarget.value = ""
        }}
      />
      <div class="row">
        <button type="button" class="round" aria-label="Share a file" title="Share a file" disabled={!!silent} onClick={() => picker.current?.click()}>
          <Icon name="clip" />
        </button>
        <textarea
          ref={box}
          rows={1}
          dir="auto"
          value={text}
          placeholder={silent ? "" : "Message"}
          aria-label={`Message to ${model.about?.title ?? ""}`}
          aria-autocomplete="list"
          aria-controls={found.length ? "words" : undefined}
          aria-activedescendant={found.length ? `word-${chosen}` : undefined}
          onInput={(event) => put(event.currentTarget.value)}
          onKeyDown={keys}
          onPaste={paste}
        />
        {text.trim() || !canRecord() ? (
          <button class="round main" type="submit" aria-label="Send" title="Send (Enter)">
            <Icon name="send" />
          </button>
        ) : (
          <Voice model={model} disabled={!!silent} />
        )}
      </div>
      {silent && <p class="silent">{silent}</p>}
    </form>
  )
}

const canRecord = () => "MediaRecorder" in window && MediaRecorder.isTypeSupported(VOICE)

export function share(model: Model, files: File[]): void {
  for (const file of files) {
    const disposition = /^image\/(png|jpeg|gif|webp)$/.test(file.type) ? "image" : "attachment"
    model.wire.upload(file, file.name || "file", { conversation: model.where, disposition }).catch((error: Error) => {
      if (error.message) model.toast("warning", `${file.name}: ${error.message}`)
    })
  }
  if (files.length) model.say(files.length === 1 ? `${files[0]!.name} is being shared.` : `${files.length} files are being shared.`)
}

function Voice({ model, disabled }: { model: Model; disabled: boolean }) {
  const [seconds, setSeconds] = useState(-1)
  const recorder = useRef<MediaRecorder | undefined>(undefined)
  const dropped = useRef(false)
  const where = useRef("")
  useEffect(() => {
    if (seconds < 0) return
    const timer = setTimeout(() => setSeconds(seconds + 1), 1000)
    return () => clearTimeout(timer)
  }, [seconds])
  useEffect(
    () => () => {
      dropped.current = true
      recorder.current?.stop()
    },
    [],
  )
  const begin = async () => {
    let stream: MediaStream
    try {
      stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1, echoCancellation: true, noiseSuppression: true } })
    } catch {
      model.toast("warning", "The microphone cannot be used: allow it for this page in the browser.")
      return
    }
    const parts: Blob[] = []
    const made = new MediaRecorder(stream, { mimeType: VOICE, audioBitsPerSecond: 32_000 })
    dropped.current = false
    where.current = model.where
    made.ondataavailable = ({ data }) => parts.push(data)
    made.onstop = () => {
      for (const each of stream.getTracks()) each.stop()
      recorder.current = undefined
      setSeconds(-1)
      if (dropped.current) return
      model.wire
        .upload(new Blob(parts, { type: "audio/webm" }), "voice note.ogg", { conversation: where.current, disposition: "voice" })
        .catch((error: Error) => error.message && model.toast("warning", error.message))
    }
    recorder.current = made
    made.start()
    setSeconds(0)
  }
  const stop = (drop: boolean) => {
    dropped.current = drop
    recorder.current?.stop()
  }
  if (seconds < 0)
    return (
      <button type="button" class="round" aria-label="Record a voice note" title="Record a voice note" disabled={disabled} onClick={begin}>
        <Icon name="mic" />
      </button>
    )
  return (
    <span class="recording">
      <span role="timer" aria-label="Recording">
        {Math.floor(seconds / 60)}:{String(seconds % 60).padStart(2, "0")}
      </span>
      <button type="button" class="round" aria-label="Drop the recording" title="Drop" onClick={() => stop(true)}>
        <Icon name="bin" />
      </button>
      <button type="button" class="round main" aria-label="Send the voice note" title="Send" onClick={() => stop(false)}>
        <Icon name="send" />
      </button>
    </span>
  )
}
