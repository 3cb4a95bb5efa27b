// Numbers, moments and lengths of time as people read them. Unknown is a dash, never zero.

export const NONE = "–";
const counting = new Intl.NumberFormat("en");
const clock = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const minute = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const day = new Intl.DateTimeFormat([], { weekday: "short", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

const known = (value) => value !== null && value !== undefined;
const two = (number) => String(number).padStart(2, "0");

export const count = (value) => (known(value) ? counting.format(value) : NONE);
export const plural = (number, word) => `${count(number)} ${word}${number === 1 ? "" : "s"}`;
export const percent = (share) =>
  !known(share) ? NONE : share === 1 || share === 0 ? `${share * 100} %` : `${(share * 100).toFixed(1)} %`;
export const time = (at) => (known(at) ? clock.format(at * 1000) : NONE);
export const shortTime = (at) => (known(at) ? minute.format(at * 1000) : NONE);
export const moment = (at, now) => (Math.abs(at - now) < 64_800 ? minute : day).format(at * 1000);

export function milliseconds(value) {
  if (!known(value)) return NONE;
  return value < 1000 ? `${Math.round(value)} ms` : `${(value / 1000).toFixed(value < 10_000 ? 2 : 1)} s`;
}

// The time left as a clock shows it: 0:07, 4:12, 12:03:11, 3 d 4 h.
export function countdown(seconds) {
  const left = Math.max(0, Math.ceil(seconds));
  const [hours, minutes] = [Math.floor(left / 3600), Math.floor((left % 3600) / 60)];
  if (hours >= 48) return `${Math.floor(hours / 24)} d ${hours % 24} h`;
  return hours ? `${hours}:${two(minutes)}:${two(left % 60)}` : `${minutes}:${two(left % 60)}`;
}

export function ago(seconds) {
  const gone = Math.max(0, seconds);
  if (gone < 60) return `${Math.floor(gone)} s`;
  if (gone < 3600) return `${Math.floor(gone / 60)} min`;
  return gone < 172_800 ? `${Math.floor(gone / 3600)} h` : `${Math.floor(gone / 86_400)} d`;
}
