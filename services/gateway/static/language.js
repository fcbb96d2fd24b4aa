// The language of a page: what the visitor chose, else what the browser asks for.

const NAMES = { en: "English", "zh-Hans": "中文" };
const CHOICE = "answerline.language";

function remembered() {
  try {
    return localStorage.getItem(CHOICE);
  } catch {
    return null;
  }
}

function preferred() {
  const wanted = navigator.languages?.length ? navigator.languages : [navigator.language];
  return wanted.map((tag) => tag.toLowerCase().split("-")[0]).find((tag) => tag === "zh" || tag === "en") === "zh" ? "zh-Hans" : "en";
}

const chosen = remembered();
let language = chosen in NAMES ? chosen : preferred();

/** texts: {key: [English, Chinese]}. Returns text(key, values), which fills {name} from values. */
export function speaker(texts) {
  return (key, values = {}) => {
    const text = texts[key]?.[language === "en" ? 0 : 1] ?? key;
    return text.replace(/\{(\w+)\}/g, (_, name) => values[name]);
  };
}

/** Fill the page's own texts and the language switch, now and whenever the language changes; `again` redraws the rest. */
export function speak(text, again) {
  const buttons = Object.entries(NAMES).map(([tag, name]) => {
    const button = document.createElement("button");
    button.type = "button";
    button.lang = tag;
    button.textContent = name;
    button.addEventListener("click", () => {
      language = tag;
      try {
        localStorage.setItem(CHOICE, tag);
      } catch {
        // without storage the choice lasts as long as the page
      }
      apply();
    });
    return [tag, button];
  });
  document.querySelector(".languages").append(...buttons.map(([, button]) => button));

  function apply() {
    document.documentElement.lang = language;
    for (const [tag, button] of buttons) button.setAttribute("aria-pressed", String(tag === language));
    for (const element of document.querySelectorAll("[data-text]")) element.textContent = text(element.dataset.text);
    for (const element of document.querySelectorAll("[aria-label][data-label]")) element.setAttribute("aria-label", text(element.dataset.label));
    again();
  }
  apply();
}

export const currentLanguage = () => language;
