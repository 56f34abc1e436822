// A line a check, and an end after so many seconds whatever hangs. A check named later/... uses a request that the cluster may not offer
// yet: it is skipped in words then.
package flotilla.clients;

import java.util.Map;
import java.util.Timer;
import java.util.TimerTask;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.common.errors.UnsupportedVersionException;

final class Report {
  private static final int TIME_LIMIT_S = 120;
  /** The client and its version. */
  private final String name;
  private volatile String current = "start";
  private boolean failed;

  /** One check; gives how many things it checked. */
  interface Check {
    int run() throws Exception;
  }

  Report(String name) {
    this.name = name;
    Timer deadline = new Timer(true);
    deadline.schedule(
        new TimerTask() {
          @Override
          public void run() {
            System.out.printf("FAIL %s %s: not done after %d s%n", name, current, TIME_LIMIT_S);
            System.out.flush();
            Runtime.getRuntime().halt(1);
          }
        },
        TIME_LIMIT_S * 1000L);
  }

  void check(Map<String, Check> all) {
    all.forEach(this::check);
  }

  void check(String label, Check check) {
    current = label;
    long start = System.nanoTime();
    try {
      int count = check.run();
      System.out.printf("ok %s %s %d %.2f%n", name, label, count, (System.nanoTime() - start) / 1e9);
    } catch (Throwable error) {
      Throwable cause = error instanceof ExecutionException ? error.getCause() : error;
      if (label.startsWith("later/") && cause instanceof UnsupportedVersionException) {
        System.out.printf("skip %s %s: the cluster does not offer it yet%n", name, label);
        return;
      }
      failed = true;
      System.out.printf("FAIL %s %s: %s (%s)%n", name, label, Plan.shorten(cause), place(error));
    }
  }

  /** Ends the program; exit code 1 if a check failed. */
  void finish() {
    System.out.flush();
    Runtime.getRuntime().halt(failed ? 1 : 0);
  }

  /** The line of ours where an error came from. */
  private static String place(Throwable error) {
    for (StackTraceElement element : error.getStackTrace()) {
      if (element.getClassName().startsWith("flotilla.") && !element.getClassName().endsWith("Plan")) {
        return element.getFileName() + ":" + element.getLineNumber();
      }
    }
    return "somewhere in the client";
  }
}
