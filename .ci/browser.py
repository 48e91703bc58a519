"""Two tabs of the chat in a real Chromium, and the page of the service. Called by the script `browser` beside this.

The tabs sit on two shards; the server is killed and restarted between two messages; both are
delivered exactly once to both. Then: the page fits a phone, and loaded nothing from elsewhere.

Nothing here depends on who is faster: the server keeps no history, so the tab that listens comes
back first, and the tab that speaks comes back when it is told to.
"""

import contextlib
import json
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

from example_people import token
from example_server import OWN_HOST, ExampleServer

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # A container's /dev/shm may be small.
    "--disable-dev-shm-usage",
    # A name would have to be looked up somewhere; nothing here has a name.
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE " + OWN_HOST,
]
# Longer than the page's longest pause between two attempts to reconnect (30 s).
WAIT_S = 60
# The kernel chooses a connection's shard; the chance that it chooses the same of two in so many
# attempts is one in 2 ** 64.
ATTEMPTS_MAX = 64
PHONE_WIDTH_PX = 390

SHARD = re.compile(r"connected \(shard (\d+)\)")


class Tab:
    """One person in a room, in a browser tab of their own."""

    def __init__(self, driver, base, nick):
        self.driver = driver
        driver.switch_to.new_window("tab")
        self.handle = driver.current_window_handle
        driver.get(f"{base}/")
        driver.find_element(By.ID, "nick").send_keys(nick)
        driver.find_element(By.ID, "room").send_keys(Keys.CONTROL, "a")
        driver.find_element(By.ID, "room").send_keys("tea", Keys.ENTER)

    def show(self):
        self.driver.switch_to.window(self.handle)

    def text(self, selector):
        self.show()
        return self.driver.find_element(By.CSS_SELECTOR, selector).text

    def run(self, script, *arguments):
        self.show()
        return self.driver.execute_script(script, *arguments)

    def texts(self, selector):
        script = "return Array.from(document.querySelectorAll(arguments[0]), (e) => e.textContent)"
        return self.run(script, selector)

    def wait(self, what, condition):
        """Waits until `condition` gives something true, and gives that."""
        def look(_):
            return condition()
        return WebDriverWait(self.driver, WAIT_S, poll_frequency=0.1).until(look, what)

    def connected_shard(self):
        """The shard it is on, or None while it is not connected."""
        match = SHARD.fullmatch(self.text("#state-text"))
        return match and match[1]

    def shard(self):
        return self.wait("connected", self.connected_shard)

    def retry_only_when_told(self):
        """Stretches the page's pauses between two attempts to connect to days."""
        self.run("Math.random = () => 1e6")

    def send_twice(self):
        """Has the page send as one does whose connection dies before it heard itself."""
        self.run(
            "const { send } = WebSocket.prototype;"
            "WebSocket.prototype.send = function (data) { send.call(this, data); send.call(this, data); }"
        )

    def reconnect(self):
        """Tells the page that there is a network until it has connected."""
        def tell():
            self.run("dispatchEvent(new Event('online'))")
            return self.connected_shard()
        self.wait("connected", tell)

    def reload(self):
        self.show()
        self.driver.refresh()

    def say(self, text):
        self.show()
        self.driver.find_element(By.ID, "text").send_keys(text, Keys.ENTER)

    def messages(self):
        return self.texts(".said .text")

    def pending(self):
        return self.texts(".said.pending .text")

    def wait_for(self, messages):
        self.wait(f"{messages} delivered", lambda: self.messages() == messages and not self.pending())

    def wait_until_offline(self):
        self.wait("offline", lambda: self.text("#state-text").startswith("offline, retry in "))


@contextlib.contextmanager
def chromium():
    profile = tempfile.mkdtemp(prefix="chromium-")
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in [*FLAGS, f"--user-data-dir={profile}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    # Named, so that selenium looks for no driver on the network.
    service = Service(shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    try:
        yield driver
    except BaseException:
        save_screenshots(driver)
        raise
    finally:
        driver.quit()
        shutil.rmtree(profile, ignore_errors=True)


def save_screenshots(driver):
    folder = Path(tempfile.mkdtemp(prefix="chat-"))
    for number, handle in enumerate(driver.window_handles):
        driver.switch_to.window(handle)
        driver.save_screenshot(str(folder / f"{number}.png"))
    print(f"screenshots in {folder}", file=sys.stderr)


def put_on_two_shards(ada, grace):
    for reloads in range(ATTEMPTS_MAX):
        shards = ada.shard(), grace.shard()
        if shards[0] != shards[1]:
            print(f"tabs on shards {shards[0]} and {shards[1]} after {reloads} reloads", flush=True)
            return
        grace.reload()
    raise AssertionError(f"both tabs stay on shard {shards[0]}")


def check_two_messages_survive_a_restart(ada, grace, server, servers):
    """Gives the server that runs in the end, and what was said."""
    put_on_two_shards(ada, grace)
    ada.retry_only_when_told()
    ada.send_twice()
    said = ["A <b>is no markup</b>"]
    ada.say(said[0])
    for tab in (ada, grace):
        tab.wait_for(said)

    # Once, and again for as long as the kernel puts both on one shard after the restart.
    for restarts in range(1, ATTEMPTS_MAX + 1):
        server.kill()
        ada.wait_until_offline()
        typed = f"B, typed while the server was gone for the {restarts}. time"
        ada.say(typed)
        assert ada.pending() == [typed]
        assert ada.text("#waiting") == "1 message waits for a connection."

        server = servers.enter_context(ExampleServer("chat", "--shards", 2, host=OWN_HOST, port=server.port))
        grace.reconnect()
        assert grace.messages() == said, "said before its author came back"
        ada.reconnect()
        # The second B comes before what is said later on the same connection.
        ada.wait("B delivered", lambda: not ada.pending())
        ada.say("C")
        said += [typed, "C"]
        for tab in (ada, grace):
            tab.wait_for(said)
        shards = ada.shard(), grace.shard()
        print(f"delivered once each after restart {restarts}, on shards {shards[0]} and {shards[1]}", flush=True)
        if shards[0] != shards[1]:
            return server, said
    raise AssertionError(f"both tabs come back on shard {shards[0]}")


def check_the_page_fits_a_phone(driver, server, tab, said):
    long_word = "w" * 500
    tab.say(long_word)
    tab.wait_for([*said, long_word])
    entrance = f"http://{server.address}/?room=tea"
    for prepare in (tab.show, lambda: driver.get(entrance)):
        prepare()
        metrics = {"width": PHONE_WIDTH_PX, "height": 844, "deviceScaleFactor": 2, "mobile": True}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        width = driver.execute_script("return document.documentElement.scrollWidth")
        assert width <= PHONE_WIDTH_PX, f"{width} px wide on a phone of {PHONE_WIDTH_PX} px"
        beyond = driver.execute_script(
            "return Array.from(document.querySelectorAll('body *')).filter((e) => e.checkVisibility()"
            " && e.getBoundingClientRect().right > innerWidth).map((e) => e.outerHTML)"
        )
        assert not beyond, f"beyond the edge of a phone: {beyond}"
    print("fits a phone", flush=True)


def check_nothing_came_from_elsewhere(driver, address):
    """No request left for any other place, and the page broke none of its own rules."""
    urls = set()
    for entry in driver.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            urls.add(message["params"]["request"]["url"])
        elif message["method"] == "Network.webSocketCreated":
            urls.add(message["params"]["url"])
    # What the browser itself is made of (chrome://...) is not fetched from anywhere.
    fetched = {url for url in urls if re.match(r"(http|ws|ftp)s?:", url)}
    foreign = {url for url in fetched if not re.match(rf"(http|ws)://{re.escape(address)}/", url)}
    assert not foreign, f"fetched from elsewhere: {foreign}"
    assert any(url.startswith("ws:") for url in fetched), f"the log misses the WebSocket: {fetched}"
    # A server that is gone is in the console too, and is not the page's fault.
    faults = [
        entry["message"]
        for entry in driver.get_log("browser")
        if entry["level"] == "SEVERE" and "WebSocket connection to" not in entry["message"]
    ]
    assert not faults, f"in the console: {faults}"
    print(f"fetched {len(fetched)} addresses, all of them the server's own", flush=True)


def check_the_page_of_the_service():
    """It connects with a token, and shows what is said as text."""
    with chromium() as driver, ExampleServer("service", "--shards", 2, host=OWN_HOST) as server:
        driver.get(f"http://{server.address}/")

        def fill(form, *values):
            fields = driver.find_elements(By.CSS_SELECTOR, f"{form} input")
            for field, value in zip(fields, values, strict=True):
                field.clear()
                field.send_keys(value)
            fields[-1].send_keys(Keys.ENTER)

        def wait_for(selector, text):
            def shows(_):
                return text in driver.find_element(By.CSS_SELECTOR, selector).text
            WebDriverWait(driver, WAIT_S, poll_frequency=0.1).until(shows, f"{text} in {selector}")

        fill("#connect", "no token")
        wait_for("#state", "Refused")
        fill("#connect", token("Ada"))
        wait_for("#log", "You are Ada")
        wait_for("#people", "Ada")
        fill("[data-kind=join]", "tea")
        wait_for("#log", "done (1)")
        fill("[data-kind=say]", "tea", "<b>no markup</b>")
        wait_for("#log", "[tea] Ada: <b>no markup</b>")
        fill("[data-kind=whisper]", "nobody", "psst")
        wait_for("#log", "not done (3): nobody")
        fill("[data-kind=find]", "abc")
        wait_for("#log", "abc is ABC (4)")
        check_nothing_came_from_elsewhere(driver, server.address)
        server.stop()
        wait_for("#state", "Closed (1001")
    print(f"browser, on {server.driver}: the page of the service speaks", flush=True)


def main():
    os.environ["SE_OFFLINE"] = "true"
    with chromium() as driver, contextlib.ExitStack() as servers:
        server = servers.enter_context(ExampleServer("chat", "--shards", 2, host=OWN_HOST))
        ada, grace = (Tab(driver, f"http://{server.address}", nick) for nick in ("Ada", "Grace"))
        server, said = check_two_messages_survive_a_restart(ada, grace, server, servers)
        check_the_page_fits_a_phone(driver, server, ada, said)
        check_nothing_came_from_elsewhere(driver, server.address)
        server.stop()
    check_the_page_of_the_service()
    print(f"browser, on {server.driver}: two messages, two shards, one restart: delivered once each in both tabs")


main()
