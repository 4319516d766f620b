// The conversation list, and what waits for an answer above it.
import { useEffect, useRef, useState } from "preact/hooks"
import type { Model } from "./model"
import { Icon, Name, Sign, when } from "./text"

const STATES: Record<string, string> = {
  requested: "asked, no answer yet",
  request: "asks to chat",
  closed: "closed",
  stopped: "has stopped",
}

export function List({ model }: { model: Model }) {
  const [adding, setAdding] = useState(false)
  return (
    <nav class="list" aria-label="Conversations">
      <header>
        <h1>securechat</h1>
        <span class="me">
          <Name name={model.account} />
        </span>
        <Bell model={model} />
        <button class="round" aria-expanded={adding} aria-label="New conversation" title="New conversation" onClick={() => setAdding(!adding)}>
          <Icon name="plus" />
        </button>
      </header>
      <State model={model} />
      {adding && <Begin model={model} done={() => setAdding(false)} />}
      {model.invitations.map((asked) => (
        <section class="asked" key={asked.conversation} aria-label={`Invitation to ${asked.name}`}>
          <p>
            <Name name={asked.inviter} /> (key {asked.key}) invites you to <Name name={asked.name} />.
            {asked.first_contact && " You have never accepted this key: ask them on another way."}
          </p>
          <div class="row">
            <button class="main" onClick={() => model.ask("AcceptInvitation", { conversation: asked.conversation, question: asked.question })}>
              Accept
            </button>
            <button onClick={() => model.ask("DeclineInvitation", { conversation: asked.conversation, question: asked.question })}>Decline</button>
          </div>
        </section>
      ))}
      <ul>
        {model.items.map((item) => (
          <li key={item.id}>
            <button
              class={`item ${item.state}`}
              aria-current={item.id === model.where ? "true" : undefined}
              onClick={() => model.open(item.id)}
            >
              <Avatar name={item.title} online={item.online ?? false} />
              <span class="top">
                <Name name={item.title} />
                <Sign sign={item.sign} words={item.trust_words} />
                {item.newest && item.newest.time > 0 && <time>{when(item.newest.time)}</time>}
              </span>
              <span class="below">
                <span class="newest" dir="auto">
                  {STATES[item.state] ??
                    (item.newest
                      ? `${item.newest.own ? "You: " : item.kind === "direct" ? "" : `${item.newest.sender}: `}${item.newest.text}`
                      : "")}
                </span>
                {item.unread > 0 && (
                  <span class="unread">
                    {item.mentioned && <span aria-hidden="true">@ </span>}
                    {item.unread > 99 ? "99+" : item.unread}
                    <span class="unseen"> unread{item.mentioned ? ", you are mentioned" : ""}</span>
                  </span>
                )}
              </span>
            </button>
          </li>
        ))}
      </ul>
      {model.items.length === 0 && !adding && <p class="empty">Nobody here yet. Begin with the plus above.</p>}
    </nav>
  )
}

export function Avatar({ name, online = false }: { name: string; online?: boolean }) {
  let sum = 0
  for (const each of name) sum = (sum * 31 + (each.codePointAt(0) ?? 0)) % 6
  return (
    <span class={`avatar tone-${sum}`} aria-hidden="true">
      {name.startsWith("#") ? "#" : (name[0] ?? "").toUpperCase()}
      {online && <span class="online" />}
    </span>
  )
}

function State({ model }: { model: Model }) {
  const lost = model.state === "lost"
  const text = !model.connected
    ? "The connection to securechat on this machine is lost. Trying again."
    : model.state === "ready"
      ? ""
      : lost
        ? "No connection to the server. What you write is kept and sent later."
        : `${model.why}.`
  return (
    <p class={text ? "state" : "unseen"} role="status">
      {text || "Connected."}
      {lost && model.connected && (
        <button class="link" onClick={() => model.ask("Reconnect")}>
          Try now
        </button>
      )}
    </p>
  )
}

function Bell({ model }: { model: Model }) {
  const [permission, setPermission] = useState("Notification" in window ? Notification.permission : "denied")
  if (permission !== "default") return null
  const ask = async () => {
    setPermission(await Notification.requestPermission())
    model.say("Notifications were asked for.")
  }
  return (
    <button class="round" aria-label="Notify me of new messages" title="Notify me of new messages" onClick={ask}>
      <Icon name="bell" />
    </button>
  )
}

function Begin({ model, done }: { model: Model; done: () => void }) {
  const [name, setName] = useState("")
  const [mine, setMine] = useState(false)
  const field = useRef<HTMLInputElement>(null)
  useEffect(() => field.current?.focus(), [])
  const room = name.startsWith("#")
  const begin = async (event: Event) => {
    event.preventDefault()
    const wanted = name.trim()
    if (!wanted) return
    const there = model.items.find((each) => each.title === wanted && each.state !== "closed")
    done()
    if (there) return model.open(there.id)
    if (room) await model.ask(mine ? "CreateRoom" : "JoinRoom", { name: wanted })
    else await model.ask("OpenDirect", { account: wanted, ask: true })
    const made = model.items.find((each) => each.title === wanted)
    if (made) await model.open(made.id)
  }
  return (
    <form class="begin" onSubmit={begin}>
      <label>
        A person, or a #room
        <input
          value={name}
          onInput={(event) => setName(event.currentTarget.value)}
          autocomplete="off"
          autocapitalize="off"
          spellcheck={false}
          ref={field}
        />
      </label>
      {room && (
        <label class="tick">
          <input type="checkbox" checked={mine} onChange={(event) => setMine(event.currentTarget.checked)} />
          Make it mine: people come in by invitation
        </label>
      )}
      <div class="row">
        <button class="main" type="submit">
          {room ? (mine ? "Create" : "Join") : "Chat"}
        </button>
        <button type="button" onClick={() => model.ask("ListRooms")}>
          Rooms
        </button>
        <button type="button" onClick={done}>
          Cancel
        </button>
      </div>
      {model.rooms && (
        <ul class="rooms">
          {model.rooms.map((each) => (
            <li key={each.name}>
              <button type="button" onClick={() => setName(each.name)}>
                <Name name={each.name} /> <small>{each.members} there</small>
              </button>
            </li>
          ))}
        </ul>
      )}
    </form>
  )
}
