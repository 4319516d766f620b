// Texts of others: characters, and never markup. What is a link is one by its characters alone.
import type { ComponentChildren } from "preact"
import { useEffect, useState } from "preact/hooks"
import { bytesOf } from "./model"

/** An address of the web, of the characters that the terminal takes as one as well (`ui/view/lines.py`). */
const ADDRESS = /(?<!\S)https?:\/\/[A-Za-z0-9._~:/?#@$&'()*+,;=%[\]-]+(?!\S)/g

export function Text({ text }: { text: string }) {
  const parts: ComponentChildren[] = []
  let end = 0
  for (const found of text.matchAll(ADDRESS)) {
    parts.push(text.slice(end, found.index))
    parts.push(
      <a href={found[0]} target="_blank" rel="noreferrer noopener">
        {found[0]}
      </a>,
    )
    end = found.index + found[0].length
  }
  parts.push(text.slice(end))
  return <>{parts}</>
}

export function Name({ name }: { name: string }) {
  return <bdi class="name">{name}</bdi>
}

/** A sign of trust beside a name, with what it means. */
export function Sign({ sign, words }: { sign: string; words: string }) {
  if (!sign) return null
  const kind = sign === "✓" ? "good" : sign === "?" ? "open" : "bad"
  return (
    <span class={`sign ${kind}`} title={words}>
      <span aria-hidden="true">{sign}</span>
      <span class="unseen"> ({words})</span>
    </span>
  )
}

export const clock = (time: number) => new Date(time).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })

export function when(time: number): string {
  const date = new Date(time)
  const now = new Date()
  if (date.toDateString() === now.toDateString()) return clock(time)
  const days = (now.getTime() - time) / 86_400_000
  if (days < 6) return date.toLocaleDateString([], { weekday: "short" })
  return date.toLocaleDateString([], { day: "numeric", month: "short" })
}

export function dayOf(date: string): string {
  const day = new Date(`${date}T12:00:00`)
  const today = new Date()
  const days = Math.round((new Date(today.toDateString()).getTime() - new Date(day.toDateString()).getTime()) / 86_400_000)
  if (days === 0) return "Today"
  if (days === 1) return "Yesterday"
  const year = day.getFullYear() === today.getFullYear() ? {} : ({ year: "numeric" } as const)
  return day.toLocaleDateString([], { weekday: "long", day: "numeric", month: "long", ...year })
}

/** A picture from bytes that came as hexadecimal digits, as long as it is shown. */
export function usePicture(hex: string): string {
  const [url, setUrl] = useState("")
  useEffect(() => {
    if (!hex) return
    const made = URL.createObjectURL(new Blob([bytesOf(hex)], { type: "image/jpeg" }))
    setUrl(made)
    return () => URL.revokeObjectURL(made)
  }, [hex])
  return url
}

const PATHS = {
  back: "M15 5l-7 7 7 7",
  close: "M6 6l12 12M18 6L6 18",
  search: "M11 5a6 6 0 1 1 0 12a6 6 0 0 1 0-12M15.500 15.500L20 20",
  people: "M9 11a3.500 3.500 0 1 0 0-7a3.500 3.500 0 0 0 0 7M2.500 20c.5-4 3-6 6.500-6s6 2 6.500 6M16 4.500a3.500 3.500 0 0 1 0 6.500M18 14.500c2 .8 3.200 2.700 3.500 5.500",
  plus: "M12 5v14M5 12h14",
  send: "M4 12l16-8-5 16-3.500-6.500zM11.500 13.500L20 4",
  clip: "M19 11l-7.500 7.500a4.500 4.500 0 0 1-6.400-6.400L13 4.300a3 3 0 0 1 4.300 4.300l-7.900 7.800a1.500 1.500 0 0 1-2.100-2.100L14 7.500",
  mic: "M12 4a2.500 2.500 0 0 1 2.500 2.500v5a2.500 2.500 0 0 1-5 0v-5A2.500 2.500 0 0 1 12 4M6 11.500a6 6 0 0 0 12 0M12 17.500V21",
  stop: "M7 7h10v10H7z",
  reply: "M9 7L4 12l5 5M4 12h9c4 0 6 2 7 6",
  smile: "M12 4a8 8 0 1 1 0 16a8 8 0 0 1 0-16M9 10v.5M15 10v.5M8.500 14.500c2 2.300 5 2.300 7 0",
  edit: "M5 19l1-4L16 5l3 3L9 18zM14 7l3 3",
  bin: "M5 7h14M10 7V5h4v2M7 7l1 12h8l1-12",
  save: "M12 4v11M7.500 11L12 15.500L16.500 11M5 20h14",
  play: "M8 5l11 7-11 7z",
  bell: "M6 16V11a6 6 0 0 1 12 0v5l1.500 2h-15zM10 20.500h4",
  down: "M6 9l6 6 6-6",
  check: "M5 13l4 4L19 7",
  shield: "M12 3l7 3v5c0 5-3 8-7 10c-4-2-7-5-7-10V6z",
} as const

export function Icon({ name }: { name: keyof typeof PATHS }) {
  return (
    <svg class="icon" viewBox="0 0 24 24" aria-hidden="true">
      <path d={PATHS[name]} />
    </svg>
  )
}
