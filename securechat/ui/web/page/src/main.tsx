// The page: the list, a conversation, and what opens beside it.
import { render } from "preact"
import { useEffect, useReducer, useState } from "preact/hooks"
import { Composer, share, type Task } from "./composer"
import { Avatar, List } from "./list"
import { Model } from "./model"
import { Side, type Pane } from "./panes"
import "./style.css"
import { Icon, Name, Sign } from "./text"
import { Timeline } from "./timeline"

const model = new Model()

function App() {
  const [, draw] = useReducer((count: number) => count + 1, 0)
  const [pane, setPane] = useState<Pane>("")
  const [task, setTask] = useState<Task>()
  const [list, setList] = useState(false)
  const [over, setOver] = useState(0)
  useEffect(() => model.listen(() => draw(undefined)), [])
  useEffect(() => setList(!model.where), [model.where])
  const unread = model.items.reduce((sum, each) => sum + each.unread, 0)
  useEffect(() => {
    document.title = `${unread ? `(${unread}) ` : ""}${model.about?.title ?? "securechat"}`
  }, [unread, model.about?.title])
  useEffect(() => {
    const keys = (event: KeyboardEvent) => {
      if ((event.ctrlKey || event.metaKey) && event.key === "k") {
        event.preventDefault()
        setPane("search")
      }
    }
    addEventListener("keydown", keys)
    return () => removeEventListener("keydown", keys)
  }, [])

  if (model.over) return <Over />
  const about = model.about
  const here = model.where && about ? about : undefined
  return (
    <div
      class={`app ${list || !here ? "at-list" : "at-chat"} ${pane ? "with-side" : ""}`}
      onDragEnter={(event) => event.dataTransfer?.types.includes("Files") && setOver(over + 1)}
      onDragLeave={() => setOver(Math.max(0, over - 1))}
      onDragOver={(event) => event.preventDefault()}
      onDrop={(event) => {
        event.preventDefault()
        setOver(0)
        if (here && !here.silent) share(model, [...(event.dataTransfer?.files ?? [])])
      }}
    >
      <List model={model} />
      <main>
        {here ? (
          <>
            <header class="head">
              <button class="round only-narrow" aria-label="To the conversations" onClick={() => setList(true)}>
                <Icon name="back" />
              </button>
              <Avatar name={here.title} />
              <div class="title">
                <h2>
                  <Name name={here.title} />
                  {here.kind === "direct" && here.people.filter((each) => !each.own).map((each) => <Sign key={each.account} sign={each.sign} words={each.trust_words} />)}
                </h2>
                <p dir="auto">{here.types || here.topic || (here.kind === "direct" ? "" : `${here.people.length} people`)}</p>
              </div>
              <button class="round" aria-label="Search" title="Search (Ctrl+K)" aria-expanded={pane === "search"} onClick={() => setPane(pane === "search" ? "" : "search")}>
                <Icon name="search" />
              </button>
              <button class="round" aria-label="People" title="People" aria-expanded={pane === "people"} onClick={() => setPane(pane === "people" ? "" : "people")}>
                <Icon name="people" />
              </button>
            </header>
            {here.state === "request" && (
              <div class="banner">
                <span>
                  <Name name={here.title} /> asks to chat with you.
                </span>
                <button class="main" onClick={() => model.ask("Accept", { conversation: here.where })}>
                  Accept
                </button>
                <button onClick={() => model.ask("Decline", { conversation: here.where })}>Decline</button>
              </div>
            )}
            {here.state === "stopped" && (
              <div class="banner">
                <span>This conversation has stopped.</span>
                <button class="main" onClick={() => model.ask("Repair", { conversation: here.where })}>
                  Repair
                </button>
              </div>
            )}
            {model.held === here.where && (
              <div class="banner alarm" role="alert">
                <span>A message waits: a key here is not one that you have accepted.</span>
                <button onClick={() => { model.held = ""; void model.ask("typed", { text: "" }) }}>Send it anyway</button>
                <button class="main" onClick={() => setPane("people")}>
                  Look at the keys
                </button>
              </div>
            )}
            {model.password && <Password />}
            <Timeline model={model} reply={(line) => setTask({ kind: "reply", line })} edit={(line) => setTask({ kind: "edit", line })} />
            {model.answer && (
              <section class="answer" aria-label="Answer">
                <header>
                  <code>{model.answer.typed}</code>
                  <button class="round" aria-label="Close the answer" onClick={() => { model.answer = undefined; model.notify() }}>
                    <Icon name="close" />
                  </button>
                </header>
                <pre tabindex={0}>{model.answer.lines.join("\n")}</pre>
              </section>
            )}
            <Composer model={model} task={task} setTask={setTask} />
          </>
        ) : (
          <div class="nowhere">
            <Icon name="shield" />
            <p>{model.items.length ? "Choose a conversation." : "What is said here only the people in it can read."}</p>
            {model.password && <Password />}
          </div>
        )}
      </main>
      <Side model={model} pane={here ? pane : ""} setPane={setPane} />
      {over > 0 && here && <div class="drop">Drop files to share them with {here.title}</div>}
      <div class="toasts">
        {model.toasts.map((each) => (
          <div key={each.number} class={`toast ${each.kind}`} role={each.kind === "notice" ? "status" : "alert"}>
            <span dir="auto">{each.text}</span>
            <button class="round" aria-label="Dismiss" onClick={() => model.dismiss(each.number)}>
              <Icon name="close" />
            </button>
          </div>
        ))}
      </div>
      <div class="unseen" role="log" aria-live="polite" aria-label="News">
        <p key={model.aloud.number}>{model.aloud.text}</p>
      </div>
    </div>
  )
}

function Password() {
  const [text, setText] = useState("")
  return (
    <form
      class="banner"
      onSubmit={(event) => {
        event.preventDefault()
        void model.ask("unlock", { password: text }).then(() => {
          model.password = ""
          model.notify()
        })
        setText("")
      }}
    >
      <label>
        {model.password}
        <input type="password" autocomplete="current-password" value={text} onInput={(event) => setText(event.currentTarget.value)} />
      </label>
      <button class="main">Unlock</button>
    </form>
  )
}

function Over() {
  return (
    <main class="nowhere">
      <Icon name="shield" />
      <h1>securechat</h1>
      <p role="alert">{model.over}</p>
      {model.code === 4409 && (
        <button
          class="main"
          onClick={() => {
            model.over = ""
            model.wire.connect()
          }}
        >
          Go on here
        </button>
      )}
    </main>
  )
}

render(<App />, document.getElementById("root")!)
model.wire.connect()
