// The timeline of one conversation: its rows as they come, and what one can do with each.
import { Component, type ComponentChildren } from "preact"
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks"
import type { Line, Model, Row } from "./model"
import { clock, dayOf, Icon, Name, Sign, Text, usePicture } from "./text"

/** Pixels from the end within which one is at the end. */
const NEAR = 80
/** Milliseconds within which lines of one person stand together. */
const TOGETHER = 300_000
const QUICK = ["👍", "❤️", "😂", "😮", "😢", "🙏"]

export function Timeline({ model, edit, reply }: { model: Model; edit: (line: Line) => void; reply: (line: Line) => void }) {
  const list = useRef<HTMLOListElement>(null)
  const place = useRef({ atEnd: true, key: "", offset: 0, where: "" })
  const asking = useRef(false)
  const [current, setCurrent] = useState("")
  const [away, setAway] = useState(false)
  const rows = model.rows

  useLayoutEffect(() => {
    const box = list.current
    if (!box) return
    const target = model.target && box.querySelector<HTMLElement>(`[data-key="${model.target}"]`)
    const fresh = place.current.where !== model.where
    if (target) {
      model.target = ""
      target.scrollIntoView({ block: "center" })
      target.classList.add("found")
      target.focus({ preventScroll: true })
      note()
    } else if (fresh && rows.length) {
      place.current.where = model.where
      const first = box.querySelector<HTMLElement>("[data-key='new']")
      if (first) first.scrollIntoView({ block: "center" })
      else box.scrollTop = box.scrollHeight
      note()
    } else if (place.current.atEnd && !model.after) {
      box.scrollTop = box.scrollHeight
    } else {
      const kept = box.querySelector<HTMLElement>(`[data-key="${place.current.key}"]`)
      if (kept) box.scrollTop += kept.offsetTop - box.scrollTop - place.current.offset
    }
  })

  const note = () => {
    const box = list.current
    if (!box) return
    const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < NEAR
    let first: HTMLElement | undefined
    for (const each of box.children) {
      if ((each as HTMLElement).offsetTop + (each as HTMLElement).offsetHeight > box.scrollTop) {
        first = each as HTMLElement
        break
      }
    }
    place.current = { ...place.current, atEnd, key: first?.dataset["key"] ?? "", offset: (first?.offsetTop ?? 0) - box.scrollTop }
    setAway(!atEnd || model.after)
  }

  const scrolled = async () => {
    note()
    const box = list.current
    if (!box || asking.current) return
    const end = box.scrollHeight - box.scrollTop - box.clientHeight
    const wish = box.scrollTop < 400 && model.before ? "older" : end < 400 && model.after ? "newer" : ""
    if (!wish) return
    asking.current = true
    await model.ask(wish)
    asking.current = false
  }

  // At the end one stays there, also where the window gets smaller: a keyboard comes up, or the composer grows.
  useEffect(() => {
    const box = list.current
    if (!box) return
    const sizes = new ResizeObserver(() => {
      if (place.current.atEnd && !model.after) box.scrollTop = box.scrollHeight
    })
    sizes.observe(box)
    return () => sizes.disconnect()
  }, [])

  // What is at the end, on a page that somebody looks at, was seen.
  const newest = rows.findLast((each) => each.row === "line")?.key ?? ""
  useEffect(() => {
    const seen = () => {
      if (document.visibilityState === "visible" && place.current.atEnd && !model.after) void model.wire.ask("seen").catch(() => undefined)
    }
    seen()
    document.addEventListener("visibilitychange", seen)
    return () => document.removeEventListener("visibilitychange", seen)
  }, [newest, model.where, away])

  const keys = (event: KeyboardEvent) => {
    const box = list.current
    if (!box || event.ctrlKey || event.metaKey || event.altKey) return
    const lines = [...box.querySelectorAll<HTMLElement>("li[tabindex]")]
    const at = lines.findIndex((each) => each.dataset["key"] === current)
    const move = { ArrowUp: at - 1, ArrowDown: at + 1, Home: 0, End: lines.length - 1 }[event.key]
    if (move !== undefined && (event.target as HTMLElement).tagName === "LI") {
      event.preventDefault()
      lines[Math.max(0, Math.min(move, lines.length - 1))]?.focus()
    }
  }

  const shown = current && rows.some((each) => each.key === current) ? current : newest
  const toEnd = async () => {
    if (model.after) await model.ask("newest")
    if (list.current) list.current.scrollTop = list.current.scrollHeight
    note()
  }
  return (
    <div class="timeline">
      <ol ref={list} onScroll={scrolled} onKeyDown={keys} aria-label="Messages">
        {model.before && <li class="more">Earlier messages are above.</li>}
        {rows.map((row, index) => (
          <RowView
            key={row.key}
            model={model}
            row={row}
            follows={follows(rows[index - 1], row)}
            current={row.key === shown}
            whole={(row.row === "line" && model.files.get(row.local_id)) || ""}
            owner={model.about?.owners.includes(model.account) ?? false}
            focus={setCurrent}
            edit={edit}
            reply={reply}
          />
        ))}
      </ol>
      {away && (
        <button class="round to-end" aria-label="To the newest message" title="To the newest message" onClick={toEnd}>
          <Icon name="down" />
        </button>
      )}
    </div>
  )
}

function follows(before: Row | undefined, row: Row): boolean {
  return (
    before?.row === "line" &&
    row.row === "line" &&
    before.sender === row.sender &&
    before.sign === row.sign &&
    !row.answers &&
    Math.abs((row.time || Date.now()) - (before.time || Date.now())) < TOGETHER
  )
}

type RowProps = {
  model: Model
  row: Row
  follows: boolean
  current: boolean
  owner: boolean
  /** What there is of its file on this page. */
  whole: string
  focus: (key: string) => void
  edit: (line: Line) => void
  reply: (line: Line) => void
}

/** Drawn again only when it has changed: there may be a thousand. */
class RowView extends Component<RowProps> {
  override shouldComponentUpdate(next: RowProps): boolean {
    const now = this.props
    return (
      now.row !== next.row || now.follows !== next.follows || now.current !== next.current || now.owner !== next.owner || now.whole !== next.whole
    )
  }

  override render({ row, ...rest }: RowProps): ComponentChildren {
    switch (row.row) {
      case "day":
        return (
          <li class="day" data-key={row.key} data-row="day" data-date={row.date}>
            <span>{dayOf(row.date)}</span>
          </li>
        )
      case "new":
        return (
          <li class="new" data-key={row.key} data-row="new">
            <span>New</span>
          </li>
        )
      case "notice":
        return (
          <li class={`notice ${row.kind}`} data-key={row.key} data-row="notice" dir="auto">
            <Text text={row.text} />
          </li>
        )
      case "moving":
        return (
          <li class="moving" data-key={row.key} data-row="moving">
            <span>
              {row.kind === "send" ? "Sending" : "Saving"} <Name name={row.name} />
            </span>
            <progress aria-label={`${row.kind === "send" ? "Sending" : "Saving"} ${row.name}`} max={row.size || 1} value={row.done} />
            <button onClick={() => rest.model.ask("CancelFile", { transfer: row.number })}>Cancel</button>
          </li>
        )
      case "line":
        return <LineView line={row} {...rest} />
    }
  }
}

function LineView({ model, line, whole, follows, current, owner, focus, edit, reply }: Omit<RowProps, "row"> & { line: Line }) {
  const [reacting, setReacting] = useState(false)
  const [hover, setHover] = useState(false)
  const react = (text: string) => {
    setReacting(false)
    const ours = line.reactions.some((each) => each.text === text && each.accounts.includes(model.account))
    void model.ask("React", { local_id: line.local_id, text, remove: ours })
  }
  const alive = !line.deleted_by && !line.problem && line.time > 0
  const mine = line.own && alive && line.delivery !== "waiting"
  const keys = (event: KeyboardEvent) => {
    if (event.target !== event.currentTarget || event.ctrlKey || event.metaKey || event.altKey) return
    const act = { r: () => alive && reply(line), e: () => mine && !line.file && edit(line), "+": () => alive && setReacting(true) }[event.key]
    if (act) {
      event.preventDefault()
      act()
    }
  }
  const classes = ["line", line.own ? "own" : "", follows ? "follows" : "", line.mentioned ? "mentioned" : "", line.delivery === "waiting" ? "waiting" : ""]
  return (
    <li
      class={classes.filter(Boolean).join(" ")}
      data-key={line.key}
      data-row="line"
      tabindex={current ? 0 : -1}
      onFocus={() => focus(line.key)}
      onKeyDown={keys}
      onMouseEnter={() => setHover(true)}
      onMouseLeave={() => {
        setHover(false)
        setReacting(false)
      }}
    >
      <div class="bubble">
        <div class={follows ? "unseen" : "who"}>
          <span class="sender">
            <Name name={line.own ? "You" : line.sender} />
          </span>
          {!line.own && <Sign sign={line.sign} words={line.trust_words} />}
        </div>
        {line.answers && (
          <button
            class="answers"
            disabled={!line.answers.local_id}
            tabindex={current ? 0 : -1}
            onClick={() => line.answers?.local_id && model.open(model.where, line.answers.local_id)}
          >
            {line.answers.state ? (
              <i>{line.answers.why}</i>
            ) : (
              <>
                <b>
                  <Name name={line.answers.sender} />
                </b>{" "}
                <span dir="auto">{line.answers.text}</span>
              </>
            )}
          </button>
        )}
        {line.file && <File model={model} line={line} whole={whole} current={current} />}
        <div class="said" dir="auto">
          {line.deleted_by ? (
            <i>deleted by {line.deleted_by}</i>
          ) : (
            <>
              {line.action && <i>{line.sender} </i>}
              {line.file ? <Text text={line.file.description} /> : <Text text={line.text} />}
            </>
          )}
        </div>
        {(line.problem || line.doubt) && <div class="problem">{line.problem || line.doubt}</div>}
        <div class="meta">
          {line.edited > 0 && !line.deleted_by && <span>edited</span>}
          {line.written > 0 && <span>written {clock(line.written)}</span>}
          {line.time > 0 && <time dateTime={new Date(line.time).toISOString()}>{clock(line.time)}</time>}
          {line.fate && <span class="fate">{line.fate}</span>}
        </div>
      </div>
      {line.reactions.length > 0 && (
        <div class="reactions">
          {line.reactions.map((each) => (
            <button
              key={each.text}
              tabindex={current ? 0 : -1}
              aria-pressed={each.accounts.includes(model.account)}
              title={each.accounts.join(", ")}
              onClick={() => react(each.text)}
            >
              <bdi>{each.text}</bdi> {each.accounts.length}
              <span class="unseen"> from {each.accounts.join(", ")}</span>
            </button>
          ))}
        </div>
      )}
      {(hover || current) && alive && (
        <div class="acts" role="toolbar" aria-label="What to do with this message">
          <Act name="Reply" icon="reply" act={() => reply(line)} />
          <Act name="React" icon="smile" act={() => setReacting(!reacting)} />
          {mine && !line.file && <Act name="Edit" icon="edit" act={() => edit(line)} />}
          {(line.own || owner) && <Act name="Delete" icon="bin" act={() => model.ask("Delete", { local_id: line.local_id })} />}
          {line.file && <Act name="Save" icon="save" act={() => model.ask("save", { local_id: line.local_id })} />}
        </div>
      )}
      {reacting && (
        <div class="emoji" role="group" aria-label="Reactions">
          {QUICK.map((each, index) => (
            <button key={each} aria-label={`React ${each}`} ref={index ? null : (button) => button?.focus()} onClick={() => react(each)}>
              {each}
            </button>
          ))}
        </div>
      )}
    </li>
  )
}

function Act({ name, icon, act }: { name: string; icon: "reply" | "smile" | "edit" | "bin" | "save"; act: () => unknown }) {
  return (
    <button aria-label={name} title={name} onClick={act}>
      <Icon name={icon} />
    </button>
  )
}

function File({ model, line, whole, current }: { model: Model; line: Line; whole: string; current: boolean }) {
  const file = line.file!
  const small = usePicture(file.thumbnail)
  const tab = current ? 0 : -1
  if (file.disposition === "voice")
    return (
      <div class="voice">
        {whole ? (
          <audio controls src={whole} aria-label={`Voice note of ${line.sender}`} />
        ) : (
          <button class="round" tabindex={tab} aria-label="Play the voice note" title="Play" onClick={() => model.ask("fetch", { local_id: line.local_id })}>
            <Icon name="play" />
          </button>
        )}
        <Wave waveform={file.waveform} />
        <span>{file.what}</span>
      </div>
    )
  return (
    <div class="file">
      {small && (
        <button class="picture" tabindex={tab} aria-label={`Show ${file.name}`} onClick={() => model.ask("fetch", { local_id: line.local_id })}>
          <img src={whole || small} alt={file.description || file.name} />
        </button>
      )}
      <span class="about">
        <b>
          <bdi>{file.name}</bdi>
        </b>
        <small>{file.what}</small>
      </span>
    </div>
  )
}

function Wave({ waveform }: { waveform: string }) {
  const parts = waveform.match(/../g) ?? []
  return (
    <svg class="wave" viewBox="0 0 144 32" aria-hidden="true">
      {parts.map((each, index) => {
        const height = 2 + (parseInt(each, 16) / 255) * 28
        return <rect key={index} x={index * 3} y={16 - height / 2} width="2" height={height} rx="1" />
      })}
    </svg>
  )
}
