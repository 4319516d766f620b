// What opens beside a conversation: its people, a safety number, a search.
import { useEffect, useRef, useState } from "preact/hooks"
import type { Found, Key, Model, Person } from "./model"
import { Icon, Name, Sign, when } from "./text"

export type Pane = "people" | "search" | "safety" | ""

export function Side({ model, pane, setPane }: { model: Model; pane: Pane; setPane: (pane: Pane) => void }) {
  const title = { people: "People", search: "Search", safety: "Safety number", "": "" }[pane]
  const box = useRef<HTMLElement>(null)
  useEffect(() => {
    const aside = box.current
    ;(aside?.querySelector<HTMLElement>("[type=search]") ?? aside?.querySelector("h2"))?.focus()
  }, [pane])
  if (!pane) return null
  return (
    <aside
      ref={box}
      class="side"
      aria-label={title}
      onKeyDown={(event) => {
        if (event.key === "Escape") setPane("")
      }}
    >
      <header>
        <h2 tabindex={-1}>{title}</h2>
        <button class="round" aria-label="Close" title="Close (Esc)" onClick={() => setPane("")}>
          <Icon name="close" />
        </button>
      </header>
      {pane === "people" && <People model={model} show={setPane} />}
      {pane === "search" && <Search model={model} />}
      {pane === "safety" && <Numbers model={model} />}
    </aside>
  )
}

function People({ model, show }: { model: Model; show: (pane: Pane) => void }) {
  const about = model.about
  const [whom, setWhom] = useState("")
  if (!about) return null
  const owner = about.owners.includes(model.account)
  const mayInvite = about.kind === "invite" && (owner || about.inviters.includes(model.account))
  const verify = async (account: string) => {
    model.safety = undefined
    await model.ask("ShowSafetyNumber", { account })
    show("safety")
  }
  const chat = async (account: string) => {
    const there = model.items.find((each) => each.title === account && each.state !== "closed")
    if (!there) await model.ask("OpenDirect", { account, ask: false })
    const made = there ?? model.items.find((each) => each.title === account)
    if (made) await model.open(made.id)
  }
  return (
    <div class="inside">
      {about.topic && (
        <p class="topic" dir="auto">
          {about.topic}
        </p>
      )}
      <ul class="people">
        {about.people.map((each) => (
          <li key={each.account}>
            <span class="who">
              <Name name={each.account} />
              {each.own ? <small> you</small> : <Sign sign={each.sign} words={each.trust_words} />}
              {about.owners.includes(each.account) && <small> owner</small>}
              <small class="trust">{each.own ? "" : words(each)}</small>
            </span>
            {!each.own && (
              <span class="row">
                <button onClick={() => verify(each.account)} aria-label={`Verify ${each.account}`}>
                  Verify
                </button>
                {about.kind !== "direct" && (
                  <button onClick={() => chat(each.account)} aria-label={`Chat with ${each.account}`}>
                    Chat
                  </button>
                )}
                {owner && (
                  <button onClick={() => model.ask("Remove", { conversation: about.where, account: each.account })} aria-label={`Remove ${each.account}`}>
                    Remove
                  </button>
                )}
              </span>
            )}
          </li>
        ))}
      </ul>
      {mayInvite && (
        <form
          class="row"
          onSubmit={(event) => {
            event.preventDefault()
            if (whom.trim()) void model.ask("Invite", { conversation: about.where, account: whom.trim() })
            setWhom("")
          }}
        >
          <input aria-label="Whom to invite" placeholder="Invite somebody" value={whom} onInput={(event) => setWhom(event.currentTarget.value)} />
          <button class="main">Invite</button>
        </form>
      )}
      <Leave model={model} />
    </div>
  )
}

function words(person: Person): string {
  const heard = person.heard ? "" : "; has said nothing here yet"
  return `${person.trust_words}${person.absent ? "; does not get what is said" : heard}`
}

function Leave({ model }: { model: Model }) {
  const [sure, setSure] = useState(false)
  const about = model.about
  if (!about || about.state === "closed") return null
  if (!sure)
    return (
      <button class="quiet" onClick={() => setSure(true)}>
        Leave {about.title}
      </button>
    )
  return (
    <div class="row">
      <span>Leave for good?</span>
      <button class="danger" onClick={() => model.ask("Leave", { conversation: about.where }).then(() => setSure(false))}>
        Leave
      </button>
      <button onClick={() => setSure(false)}>Stay</button>
    </div>
  )
}

function Numbers({ model }: { model: Model }) {
  const safety = model.safety
  if (!safety) return <p class="inside">Asking.</p>
  return (
    <div class="inside">
      <p>
        Compare with what <Name name={safety.account} /> sees, side by side or on a call whose voice you know. Every digit has to be the same.
      </p>
      {safety.keys.map((each) => (
        <Numbered key={each.key} model={model} account={safety.account} shown={each} />
      ))}
      {safety.keys.length === 0 && <p>No key of this account is known yet.</p>}
    </div>
  )
}

function Numbered({ model, account, shown }: { model: Model; account: string; shown: Key }) {
  const decide = async (method: string) => {
    await model.ask(method, { account, key: shown.key })
    await model.ask("ShowSafetyNumber", { account })
  }
  return (
    <section class="number" aria-label={`Key ${shown.key}`}>
      <p>
        Key <code>{shown.key}</code> <Sign sign={shown.sign} words={shown.trust_words} /> <small>{shown.trust_words}</small>
      </p>
      <Code rows={shown.code} label={`The safety number as a QR code: ${shown.number}`} />
      <ol class="digits" aria-label="Safety number">
        {shown.number.split(" ").map((each, index) => (
          <li key={index}>{each}</li>
        ))}
      </ol>
      {shown.conversations.length > 0 && <small>Shown in {shown.conversations.join(", ")}</small>}
      <div class="row">
        {shown.trust !== "verified" && (
          <button class="main" onClick={() => decide("Verify")}>
            They are the same
          </button>
        )}
        {shown.trust === "unknown" || shown.trust === "changed" ? <button onClick={() => decide("Trust")}>Accept without comparing</button> : null}
        {shown.trust !== "refused" && (
          <button class="danger" onClick={() => decide("Distrust")}>
            They differ
          </button>
        )}
      </div>
    </section>
  )
}

/** A QR code in one path: black on white in dark colours, too, for a camera. */
function Code({ rows, label }: { rows: string[]; label: string }) {
  const size = rows.length + 8
  let path = ""
  rows.forEach((row, y) => {
    for (const run of row.matchAll(/1+/g)) path += `M${run.index + 4} ${y + 4}h${run[0].length}v1h-${run[0].length}z`
  })
  return (
    <svg class="code" role="img" aria-label={label} viewBox={`0 0 ${size} ${size}`} shape-rendering="crispEdges">
      <rect width={size} height={size} fill="#fff" />
      <path d={path} fill="#000" />
    </svg>
  )
}

function Search({ model }: { model: Model }) {
  const [text, setText] = useState("")
  const [asked, setAsked] = useState("")
  const [found, setFound] = useState<Found[]>([])
  const [more, setMore] = useState(false)
  const search = async (before: number) => {
    const answer = (await model.ask("search", { text, before })) as Found[] | undefined
    if (!answer) return
    setAsked(text)
    setFound(before ? [...found, ...answer] : answer)
    setMore(answer.length === 30)
    model.say(answer.length ? `${answer.length} found.` : "Nothing found.")
  }
  return (
    <div class="inside">
      <form
        class="row"
        role="search"
        onSubmit={(event) => {
          event.preventDefault()
          if (text.trim()) void search(0)
        }}
      >
        <input type="search" aria-label="What to look for" value={text} onInput={(event) => setText(event.currentTarget.value)} />
        <button class="main">Search</button>
      </form>
      <p class="hint">
        Also: <code>from:bob</code>, <code>in:#room</code>, <code>has:file</code>, <code>after:2026-11</code>, <code>"these words"</code>
      </p>
      {asked && found.length === 0 && <p>Nothing found.</p>}
      <ul class="results">
        {found.map((each) => (
          <li key={each.line.key}>
            <button onClick={() => model.open(each.where, each.line.local_id)}>
              <span class="top">
                <Name name={each.line.own ? "You" : each.line.sender} /> <small>{each.title}</small>
                <time>{when(each.line.time)}</time>
              </span>
              <span class="text" dir="auto">
                {each.line.text}
              </span>
            </button>
          </li>
        ))}
      </ul>
      {more && <button onClick={() => search(found[found.length - 1]!.line.local_id)}>Older ones</button>}
    </div>
  )
}
