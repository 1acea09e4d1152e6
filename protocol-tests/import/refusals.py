"""What is not imported, and what is said of it. Each time a copy of Kafka's folder is spoiled."""

import shutil

METADATA = "__cluster_metadata-0"


def run(kafka_data, folder, take_over, results):
    """`take_over(source, target, *more)` imports; gives exit code and what was said."""
    folder.mkdir(parents=True)
    copy, target = folder / "kafka", folder / "imported"

    def refused(name, spoil, *told, more=(), leaves_target=False):
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(kafka_data, copy)
        spoil()
        code, said = take_over(copy, target, *more)
        missing = [each for each in told if each not in said]
        results.append((f"refused: {name}{f', without saying {missing}: {said}' if missing else ''}", code == 1 and not missing))
        results.append((f"refused: {name}, and {'no node starts on what is there' if leaves_target else 'nothing is written'}",
                        target.exists() == leaves_target))

    def edit(path, change):
        path.write_bytes(change(path.read_bytes()))

    def metadata_log():
        return max((copy / METADATA).glob("*.log"))

    def snapshot():
        return max((copy / METADATA).glob("*.checkpoint"))

    def flip(content, at):
        return content[:at] + bytes([content[at] ^ 1]) + content[at + 1:]

    refused("a metadata log that is cut off", lambda: edit(metadata_log(), lambda content: content[:-10]),
            "Kafka's metadata cannot be read", str(metadata_log_name(kafka_data)), "restore the file")
    refused("a metadata log with garbage in it", lambda: edit(metadata_log(), lambda content: content[:-300] + b"garbage " * 20 + content[-140:]),
            "Kafka's metadata cannot be read")
    refused("a snapshot of the metadata that is cut off", lambda: edit(snapshot(), lambda content: content[:-5]), "Kafka's metadata cannot be read")
    refused("no metadata log", lambda: shutil.rmtree(copy / METADATA), "none of the folders has a metadata log", "--metadata-log-dir")
    refused("a Kafka with ZooKeeper", lambda: (copy / "meta.properties").write_text("version=0\nbroker.id=1\ncluster.id=c\n"), "ZooKeeper", "KRaft first")
    refused("a partition that is missing", lambda: shutil.rmtree(copy / "many-1"), "there is no folder many-1", "--without many")
    refused("a replica that is being moved", lambda: (copy / "many-1.0123-future").mkdir(), "many-1.0123-future", "let it finish")
    refused("a topic that is not there", lambda: None, "there is no topic 'nothing' to leave out", more=("--without", "nothing"))

    def damage():
        # The newest one: those below the log's start are not taken over, and whether Kafka has deleted them by now is chance.
        segment = max((copy / "trimmed-1").glob("*.log"))
        edit(segment, lambda content: flip(content, 5_000))
    refused("a damaged log", damage, "trimmed-1 cannot be imported", "is damaged at position", ".log", leaves_target=True)

    # After that, and after any crash: no node starts there, and the next attempt replaces it.
    from harness import brokers
    millpond = brokers.Millpond(folder / "millpond")
    millpond.data = target
    try:
        millpond.start()
        millpond.stop()
        said = "it started"
    except brokers.processes.CommandFailed as error:
        said = str(error)
    results.append((f"no node starts on half an import: {said[-300:]}", "is not complete: an import from" in said and "Do that again" in said))
    code, said = take_over(kafka_data, target)
    results.append((f"and the next attempt replaces it: {'' if code == 0 else said}", code == 0))

    inside = folder / "kafka" / "new"
    code, said = take_over(folder / "kafka", inside)
    results.append(("refused: a target within Kafka's folder", code == 1 and "within Kafka's folder" in said and not inside.exists()))
    thesis = folder / "home"
    thesis.mkdir()
    (thesis / "thesis.tex").write_text("")
    code, said = take_over(kafka_data, thesis)
    results.append(("refused: a target with something in it", code == 1 and "thesis.tex" in said and len(list(thesis.iterdir())) == 1))
    shutil.rmtree(copy)
    shutil.copytree(kafka_data, copy)
    (copy / ".kafka_cleanshutdown").unlink()
    target = folder / "unclean"
    code, said = take_over(copy, target, "--without", "many")
    results.append(("without the sign of a clean stop, and without a topic, it is imported",
                    code == 0 and "not stopped cleanly" in said and "as --without says" in said and not (target / "many-0").exists()))
    shutil.rmtree(folder, ignore_errors=True)


def metadata_log_name(kafka_data):
    return max((kafka_data / METADATA).glob("*.log")).name
